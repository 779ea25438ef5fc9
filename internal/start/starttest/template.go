// Package starttest knows the environment that template.yaml gives the functions, for
// tests.
package starttest

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Variables returns the environment variables of the function in functions/NAME, by
// name: those of all functions and its own. The value is the default of the parameter
// that the template sets the variable to, or nil where it sets something else or the
// parameter has no default. A function reads its variables as required, except for
// those whose default is empty.
func Variables(t testing.TB, function string) map[string]*string {
	t.Helper()
	type properties struct {
		Environment struct {
			Variables map[string]yaml.Node `yaml:"Variables"`
		} `yaml:"Environment"`
	}
	var template struct {
		Parameters map[string]struct {
			Default *string `yaml:"Default"`
		} `yaml:"Parameters"`
		Globals struct {
			Function properties `yaml:"Function"`
		} `yaml:"Globals"`
		Resources map[string]struct {
			Properties properties `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	b, err := os.ReadFile(filepath.Join(root(t), "template.yaml"))
	if err == nil {
		err = yaml.Unmarshal(b, &template)
	}
	if err != nil {
		t.Fatal(err)
	}
	nodes := maps.Clone(template.Globals.Function.Environment.Variables)
	maps.Copy(nodes, template.Resources[logicalID(function)].Properties.Environment.Variables)
	if len(nodes) < 2 {
		t.Fatalf("got %d variables of %s in the template, want more", len(nodes), logicalID(function))
	}
	variables := make(map[string]*string, len(nodes))
	for name, node := range nodes {
		variables[name] = nil
		if node.Tag == "!Ref" {
			variables[name] = template.Parameters[node.Value].Default
		}
	}
	return variables
}

// logicalID returns the name that the function in functions/NAME has in the template.
func logicalID(function string) string {
	var id strings.Builder
	for _, word := range strings.Split(function, "-") {
		id.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return id.String() + "Function"
}

// root returns the folder of the repository.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for ; err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "template.yaml")); err == nil {
			return dir
		}
	}
	t.Fatal("not in the repository")
	return ""
}
