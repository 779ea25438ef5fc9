# `make` lists the targets; scripts/ has what they do.
.DEFAULT_GOAL := help
SHELL := /bin/bash

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: ## download a file through the whole app on this machine, from nothing; PORT=4566
	@python3 scripts/local demo

test: ## everything CI runs, set-up included
	@bash scripts/test.sh

check: ## the quick part of the tests: format, vet, lint, template, state machines, unit tests
	@QUICK=1 bash scripts/test.sh go template

unit: ## Go tests that need nothing but Go, without the slow ones
	go test -short ./asl ./events ./functions/... ./internal/... ./cmd/...

docs: ## generate docs/parameters.md, docs/states.md, and the prices in docs/capacity.md
	@bash scripts/setup.sh venv
	@.local/venv/bin/python scripts/reference.py
	@.local/venv/bin/python scripts/cost.py

build: ## build the command line tools into bin/
	@mkdir -p bin
	@python3 scripts/process.py build "building bin/download, bin/copyurl, bin/origin" go build -trimpath -o bin/ ./cmd/...

up: ## start the local stack and deploy there (again: update); PORT=4566 ORIGIN_URL=… PARAMETERS='Name=value …'
	@python3 scripts/local up

down: ## stop the local stack
	@python3 scripts/local down

bench: ## measure the copier against other tools
	go run ./scripts/bench

load: ## load test of the stack of API_URL (source .local/env), else of a separate local stack
	@bash scripts/load.sh

deploy: ## build and deploy to AWS; asks for the main settings, unless ORIGIN_URL=… or samconfig.toml has them
	@bash scripts/setup.sh deploy
	@.local/deploy/bin/python scripts/cloud deploy

destroy: ## stop the stack's executions, empty its bucket, delete it; STACK_NAME=… YES=1
	@bash scripts/setup.sh deploy
	@.local/deploy/bin/python scripts/cloud destroy

clean: down ## stop the local stack and remove everything that was built or installed
	rm -rf .local .aws-sam bin scripts/__pycache__ scripts/local/__pycache__ scripts/cloud/__pycache__

.PHONY: help demo test check unit docs build up down bench load deploy destroy clean
