// Package scripts has the tests of the shell scripts that hold for themselves;
// the others are run by e2e.
package scripts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// library runs lines of bash behind lib.sh, with STATE a folder of the test's own,
// and returns what they print.
func library(t *testing.T, state, lines string) string {
	t.Helper()
	c := exec.Command("bash", "-c", "set -euo pipefail; . scripts/lib.sh; "+lines)
	c.Dir = ".."
	c.Env = append(os.Environ(), "STATE="+state)
	var said strings.Builder
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", lines, err, out, &said)
	}
	return strings.TrimSpace(string(out))
}

const isUp = `running it && echo up || echo down`

// group starts a process in a group of its own that ends with the test, and says
// whether it has been ended before.
func group(t *testing.T, words ...string) (pid int, ended func() bool) {
	t.Helper()
	c := exec.Command(words[0], words[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pid = c.Process.Pid
	t.Cleanup(func() {
		syscall.Kill(-pid, syscall.SIGKILL)
		c.Wait()
	})
	return pid, func() bool {
		var status syscall.WaitStatus
		n, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
		return n == pid || err != nil
	}
}

func TestStartAndStop(t *testing.T) {
	state := t.TempDir()
	if got := library(t, state, isUp); got != "down" {
		t.Errorf("at first: got %s, want down", got)
	}
	var pid int
	text := library(t, state, `start it bash -c 'sleep 300 & sleep 300'; cat "$STATE/it.pid"`)
	if _, err := fmt.Sscan(text, &pid); err != nil {
		t.Fatal(err)
	}
	if got := library(t, state, isUp); got != "up" {
		t.Errorf("after start: got %s, want up", got)
	}
	if err := syscall.Kill(-pid, 0); err != nil {
		t.Errorf("after start: the group of %d: %v", pid, err)
	}
	library(t, state, "stop it")
	if err := syscall.Kill(-pid, 0); err != syscall.ESRCH {
		t.Errorf("after stop: the group of %d: got %v, want none", pid, err)
	}
	if got := library(t, state, isUp); got != "down" {
		t.Errorf("after stop: got %s, want down", got)
	}
}

// Linux tells when a process began behind its name, which may look like more of what it tells.
func TestBeganWithAnOddName(t *testing.T) {
	state := t.TempDir()
	program := filepath.Join(state, "a) 1 (b) 2")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nread line"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program)
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer in.Close()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
	if err != nil {
		t.Skip("no /proc here, whose odd names this is about: ", err)
	}
	// proc_pid_stat(5): the name is field 2, the time field 22.
	want := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))[22-3]
	if got := library(t, state, fmt.Sprintf("began %d", c.Process.Pid)); got != want {
		t.Errorf("got %q, want %s of %s", got, want, stat)
	}
}

// What a process has started goes too where it has died itself.
func TestStopWithoutTheFirst(t *testing.T) {
	state := t.TempDir()
	text := library(t, state, `start it bash -c 'sleep 300 & echo >"$STATE/ready"; sleep 300'
		read -r pid _ <"$STATE/it.pid"
		until [ -e "$STATE/ready" ]; do sleep 0.01; done
		kill -KILL "$pid"
		while running it; do sleep 0.01; done
		echo "$pid"
		stop it`)
	var pid int
	if _, err := fmt.Sscan(text, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-pid, 0); err != syscall.ESRCH {
		t.Errorf("the group of %d: got %v, want none", pid, err)
	}
}

// A file that was left behind names a process by number; the number is another's by now.
func TestStopLeavesOthersAlone(t *testing.T) {
	state := t.TempDir()
	library(t, state, "start it sleep 300; cp $STATE/it.pid $STATE/kept; stop it")
	kept, err := os.ReadFile(filepath.Join(state, "kept"))
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(kept))
	if len(words) != 3 {
		t.Fatalf("got %q, want the number, the boot and the beginning", kept)
	}
	for name, line := range map[string]string{
		"with the number alone":                      "%d",
		"of a process that began at another time":    "%d " + words[1] + " " + words[2],
		"of another boot":                            "%d boot $(began %[1]d)",
		"of another boot, whose first has died":      "%d boot " + words[2],
		"of one that died before that could be seen": "%d " + words[1],
	} {
		t.Run(name, func(t *testing.T) {
			words := []string{"sleep", "300"}
			if strings.Contains(name, "has died") {
				words = []string{"bash", "-c", "sleep 300 & disown; sleep 0.1"}
			}
			pid, ended := group(t, words...)
			if strings.Contains(name, "has died") {
				for !ended() {
					time.Sleep(time.Millisecond)
				}
			}
			library(t, state, fmt.Sprintf(`echo "`+line+`" >"$STATE/it.pid"`, pid))
			if got := library(t, state, isUp); got != "down" {
				t.Errorf("got %s, want down", got)
			}
			library(t, state, "stop it")
			if err := syscall.Kill(-pid, 0); err != nil || !strings.Contains(name, "has died") && ended() {
				t.Errorf("an unrelated group was ended")
			}
			if _, err := os.Stat(filepath.Join(state, "it.pid")); !os.IsNotExist(err) {
				t.Errorf("the file is still there: %v", err)
			}
		})
	}
}

// The README asks for Go, Python, make and bash, so nothing that not every Unix has.
func TestWithoutMoreTools(t *testing.T) {
	more := regexp.MustCompile(`\b(curl|wget|setsid|sha256sum)\b`)
	for _, script := range []string{"lib.sh", "setup.sh", "up.sh", "down.sh", "demo.sh"} {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(text), "\n") {
			if tool := more.FindString(line); tool != "" && !strings.HasPrefix(line, "#") {
				t.Errorf("%s:%d uses %s", script, n+1, tool)
			}
		}
	}
}

// refused runs a script of top with more in its environment, and nothing to read, and
// returns what it says as it fails.
func refused(t *testing.T, top, script string, env ...string) string {
	t.Helper()
	c := exec.Command("bash", "scripts/"+script)
	c.Dir = top
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !slices.Contains([]string{"STATE", "PORT", "PARAMETERS", "STACK_NAME", "YES", "ENVIRONMENT", "CONFIG", "AWS_ENDPOINT_URL"}, name) {
			c.Env = append(c.Env, variable)
		}
	}
	c.Env = append(c.Env, env...)
	out, err := c.CombinedOutput()
	if err == nil {
		t.Errorf("%s %q: went on: %s", script, env, out)
	}
	return string(out)
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		script, env, want string
	}{
		{"up.sh", "PARAMETERS=MaxFileBytes=1 MaxFileByte=1", "up: there is no parameter MaxFileByte\n"},
		{"up.sh", "PARAMETERS=ClientTimeoutSeconds=1h", "up: ClientTimeoutSeconds must be a number, not '1h'\n"},
		{"destroy.sh", "", "destroy: say which stack: make destroy STACK_NAME=…\n"},
		{"debug.sh", "", "debug: usage: debug.sh FUNCTION [EVENT.json]\n"},
		{"deploy.sh", "CONFIG=samconfig.example.toml ENVIRONMENT=prd", "deploy: samconfig.example.toml has no section [prd]\n"},
	} {
		env := []string{"STATE=" + t.TempDir(), test.env}
		if test.script == "deploy.sh" {
			env = strings.Fields(test.env)
		}
		if got := refused(t, "..", test.script, env...); got != test.want {
			t.Errorf("%s, %s: got %q, want %q", test.script, test.env, got, test.want)
		}
	}
}

// A stack keeps the port it was started with.
func TestPortOfWhatIsUp(t *testing.T) {
	state := t.TempDir()
	const port = `unset PORT; . scripts/lib.sh; echo "$PORT $AWS_ENDPOINT_URL"`
	if got := library(t, state, port); got != "4566 http://127.0.0.1:4566" {
		t.Errorf("at first: got %s", got)
	}
	library(t, state, `start ministack sleep 300; echo 4570 >"$STATE/port"`)
	defer library(t, state, "stop ministack")
	if got := library(t, state, port); got != "4570 http://127.0.0.1:4570" {
		t.Errorf("after start: got %s", got)
	}
	if got, want := refused(t, "..", "up.sh", "STATE="+state, "PORT=4571"), "up: the local stack is up on 4570; make down first\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, want := range []string{"down: stopped", ""} {
		if got := library(t, state, "bash scripts/down.sh"); got != want {
			t.Errorf("down: got %q, want %q", got, want)
		}
	}
	if got := library(t, state, port); got != "4566 http://127.0.0.1:4566" {
		t.Errorf("after down: got %s", got)
	}
}

func TestQuietly(t *testing.T) {
	const lines = `quietly it bash -c 'echo File with same data already exists at a, skipping upload; echo Error: no; exit %d' 2>&1 || true`
	if got := library(t, t.TempDir(), "("+fmt.Sprintf(lines, 0)+")"); got != "" {
		t.Errorf("what succeeds said %q", got)
	}
	if got, want := library(t, t.TempDir(), "("+fmt.Sprintf(lines, 1)+") || true"), "Error: no\nbash: it failed"; got != want {
		t.Errorf("what fails: got %q, want %q", got, want)
	}
}

// folder is one with scripts of this and others that stand for what they would need.
func folder(t *testing.T, files map[string]string, scripts ...string) string {
	t.Helper()
	top := t.TempDir()
	for _, name := range scripts {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	for name, text := range files {
		name = filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

func TestDestroyWithNobodyToAsk(t *testing.T) {
	top := folder(t, map[string]string{
		"scripts/setup.sh":    "",
		".local/venv/bin/aws": "#!/usr/bin/env bash\n[ \"$2\" = describe-stack-resources ] || touch deleted\n",
	}, "scripts/destroy.sh")
	want := "destroy: nothing was deleted: there is nobody to ask; YES=1 answers it\n"
	if got := refused(t, top, "destroy.sh", "STACK_NAME=it"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(top, "deleted")); err == nil {
		t.Error("it was deleted")
	}
}

// Functions are built for the processor they are deployed to, also where that is chosen after the build.
func TestDeployBuildsForTheArchitecture(t *testing.T) {
	python, err := filepath.Abs("../.local/venv/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("bash", "setup.sh", "venv").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const again = "deploy: you chose x86_64, but the functions were built for arm64: building and deploying again\n"
	const toAWS = "build\ndeploy --guided --stack-name download\n"
	const elsewhere = "[default.deploy.parameters]\nparameter_overrides = [\"OriginUrl=https://x\"]\n"
	for name, test := range map[string]struct{ config, chosen, want string }{
		"first, as built":  {"", "arm64", toAWS},
		"first, another":   {"", "x86_64", toAWS + again + "build --parameter-overrides Architecture=x86_64\ndeploy\n"},
		"not saved":        {"", "", toAWS},
		"later, a list":    {"[default.deploy.parameters]\nparameter_overrides = [\"A=b\", \"Architecture=x86_64\"]\n", "", "build --parameter-overrides Architecture=x86_64\ndeploy\n"},
		"later, for all":   {"[default.global.parameters]\nparameter_overrides = [\"Architecture=x86_64\"]\n", "", "build --parameter-overrides Architecture=x86_64\ndeploy\n"},
		"later, a comment": {strings.Replace(elsewhere, "[\"", "[ # \"Architecture=x86_64\"\n\"", 1), "", "build\ndeploy\n"},
		"of another":       {elsewhere + "[prod.deploy.parameters]\nparameter_overrides = \"Architecture=x86_64\"\n", "", "build\ndeploy\n"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{
				"scripts/setup.sh":       "",
				".local/venv/bin/python": "#!/bin/sh\nexec " + python + ` "$@"`,
				"bin/sam": `#!/usr/bin/env bash
said=$(grep -oE -- '^(build|deploy)|--guided|--stack-name \w+|--parameter-overrides .*' <<<"$*" | paste -sd ' ')
echo "$said"
case $said in *--guided*) [ -z "$CHOSEN" ] || printf '[default.deploy.parameters]\nparameter_overrides = "OriginUrl=\\"x\\" Architecture=\\"%s\\""\n' "$CHOSEN" >samconfig.toml ;; esac
`,
			}
			if test.config != "" {
				files["samconfig.toml"] = test.config
			}
			c := exec.Command("bash", "scripts/deploy.sh")
			c.Dir = folder(t, files, "scripts/deploy.sh", "template.yaml")
			c.Env = append(os.Environ(), "PATH="+c.Dir+"/bin:"+os.Getenv("PATH"), "CHOSEN="+test.chosen,
				"CONFIG=", "ENVIRONMENT=", "STACK_NAME=", "AWS_ENDPOINT_URL=")
			out, err := c.CombinedOutput()
			if err != nil || string(out) != test.want {
				t.Errorf("got %v and %q, want %q", err, out, test.want)
			}
		})
	}
}

// An npm that is killed half way is no install; the next start does all of it.
func TestSetUpKilledHalfWay(t *testing.T) {
	top := t.TempDir()
	npm := `#!/usr/bin/env bash
set -e
[ "$1" = install ] && [ -f package.json ]
mkdir -p node_modules/.bin
[ -e ../../tried ] || { touch ../../tried; kill -KILL 0; } # all of the group
touch node_modules/.bin/wscat
`
	for _, name := range []string{"scripts/setup.sh", "scripts/package.json", "go.mod"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err == nil {
			os.MkdirAll(filepath.Join(top, "scripts"), 0o755)
			err = os.WriteFile(filepath.Join(top, name), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(top, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(top, "bin/npm"), []byte(npm), 0o755); err != nil {
		t.Fatal(err)
	}
	setUp := func() error {
		c := exec.Command("bash", filepath.Join(top, "scripts/setup.sh"), "wscat")
		c.Env = append(os.Environ(), "PATH="+filepath.Join(top, "bin")+":"+os.Getenv("PATH"))
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		out, err := c.CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	if err := setUp(); err == nil {
		t.Fatal("nothing was killed")
	}
	for _, which := range []string{"second", "third"} { // which has nothing to do
		if err := setUp(); err != nil {
			t.Fatalf("the %s start: %v", which, err)
		}
		if _, err := os.Stat(filepath.Join(top, ".local/npm/node_modules/.bin/wscat")); err != nil {
			t.Fatalf("after the %s start: %v", which, err)
		}
	}
}

// TestClean runs make clean in a folder like this one: it removes what is built
// and nothing else.
func TestClean(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Makefile", "scripts/lib.sh", "scripts/down.sh"} {
		text, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		os.Mkdir(filepath.Join(dir, filepath.Dir(name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := filepath.Glob(dir + "/*")
	for _, name := range []string{".local/venv", ".aws-sam/build", "bin/download"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("make", "--no-print-directory", "clean")
	c.Dir, c.Env = dir, append(os.Environ(), "STATE=.local")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("make clean: %v\n%s", err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(before) {
		t.Errorf("got %v, %v, want %q", entries, err, before)
	}
}

// What can't be taken is told before anything is installed or built.
func TestUpRefuses(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "bash", "scripts/up.sh")
	c.Dir, c.Env = "..", append(os.Environ(), "STATE="+t.TempDir(), "PORT=abc")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it would go on to start ends with it
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	out, err := c.CombinedOutput()
	if want := "up: PORT must be a number, not abc\n"; err == nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}
