// Package scripts tests the shell scripts that need no local stack; e2e runs the
// others.
package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// The README requires only Go, Python, make, and bash, so these scripts use no tool
// that some systems lack.
func TestWithoutMoreTools(t *testing.T) {
	more := regexp.MustCompile(`\b(curl|wget|setsid|sha256sum)\b`)
	for _, script := range []string{"lib.sh", "setup.sh"} {
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

// TestLocked checks that lock files have a hash for each Python and npm package, and no
// registry, and that workflows name actions by commit.
func TestLocked(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	lists, err := filepath.Glob("requirements*.in")
	if err != nil || len(lists) < 4 {
		t.Fatalf("got %q, %v", lists, err)
	}
	for _, list := range lists {
		locked := read(strings.TrimSuffix(list, ".in") + ".txt")
		without := regexp.MustCompile(`(?m)^[a-z][^\\\n]*$`) // a package's line that no hash continues
		if line := without.FindString(locked); line != "" {
			t.Errorf("%s: %s has no hash", list, line)
		}
		for _, line := range regexp.MustCompile(`(?m)^[a-z].*==\S+`).FindAllString(read(list), -1) {
			if line = regexp.MustCompile(`\[.*\]`).ReplaceAllString(line, ""); !strings.Contains(locked, "\n"+line) {
				t.Errorf("%s: the lock doesn't have %s", list, line)
			}
		}
		if strings.Contains(locked, "://") || strings.Contains(locked, "--index-url") {
			t.Errorf("%s: the lock names a registry", list)
		}
	}
	npm := read("package-lock.json")
	if strings.Contains(npm, `"resolved"`) {
		t.Error("package-lock.json names a registry: npm install --package-lock-only --omit-lockfile-registry-resolved")
	}
	if got, want := strings.Count(npm, `"integrity": "sha512-`), strings.Count(npm, `    "node_modules/`); got != want || got == 0 {
		t.Errorf("package-lock.json: %d packages, %d with a hash", want, got)
	}
	workflows, err := filepath.Glob("../.github/workflows/*.yml")
	if err != nil || len(workflows) == 0 {
		t.Fatalf("got %q, %v", workflows, err)
	}
	for _, workflow := range workflows {
		for _, use := range regexp.MustCompile(`uses: *(\S+)`).FindAllStringSubmatch(read(workflow), -1) {
			if !regexp.MustCompile(`^[\w-]+/[\w-]+@[0-9a-f]{40}$`).MatchString(use[1]) {
				t.Errorf("%s: %s is not named by a commit", workflow, use[1])
			}
		}
	}
}

// If npm is killed half way, the next start installs everything again.
func TestSetUpKilledHalfWay(t *testing.T) {
	top := t.TempDir()
	npm := `#!/usr/bin/env bash
set -e
[ "$1 $3 $4" = "--prefix ci --ignore-scripts" ] && [ -f "$2/package.json" ]
mkdir -p "$2/node_modules/.bin"
[ -e tried ] || { touch tried; kill -KILL 0; } # all of the group
touch "$2/node_modules/.bin/wscat"
`
	for _, name := range []string{"scripts/setup.sh", "scripts/lib.sh", "scripts/process.py", "scripts/package.json", "scripts/package-lock.json", "go.mod"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err == nil {
			os.MkdirAll(filepath.Dir(filepath.Join(top, name)), 0o755)
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
	for _, name := range []string{"Makefile", "scripts/local/__main__.py", "scripts/process.py"} {
		text, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755)
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
