# Plain targets; what they do is in scripts/. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: ## download a file through the whole app on this machine, from nothing; PORT=4566
	@python3 scripts/local demo

test: ## everything CI runs, set-up included
	@bash scripts/test.sh

check: ## the quick part of the tests: format, vet, lint, template, state machines, unit tests
	@bash scripts/check.sh

docs: ## generate the reference tables, docs/parameters.md and docs/states.md
	@bash scripts/setup.sh venv
	@.local/venv/bin/python scripts/reference.py

build: ## build the command line tools into bin/
	@mkdir -p bin
	go build -trimpath -o bin/ ./cmd/...

up: ## start the local stack and deploy there (again: update); PORT=4566 ORIGIN_URL=… PARAMETERS='Name=value …'
	@python3 scripts/local up

down: ## stop the local stack
	@python3 scripts/local down

bench: ## measure the copier against other tools
	go run ./scripts/bench

load: ## load test; against the local stack or, with API_URL set, that one
	@bash scripts/load.sh

deploy: ## build and deploy to AWS, asking for the parameters (sam deploy --guided)
	@bash scripts/deploy.sh

destroy: ## empty the stack's bucket and delete the stack; STACK_NAME=… YES=1
	@bash scripts/destroy.sh

clean: down ## stop the local stack and remove all that was built or installed
	rm -rf .local .aws-sam bin scripts/__pycache__ scripts/local/__pycache__

.PHONY: help demo test check docs build up down bench load deploy destroy clean
