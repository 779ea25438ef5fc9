// Command calls prints, as JSON, what each function in functions/ may ask of
// DynamoDB and of task tokens, and which may stop an execution: every call that its main can reach through this
// module, as IAM actions. scripts/template_test.py compares it with the roles.
//
//	go run ./scripts/calls
package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/types"
	"log"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

const module = "async-download/"

var (
	tableAction = regexp.MustCompile(`^(Get|Put|Update|Delete)Item$|^Batch(Get|Write)Items?$|^(Query|Scan)$`)
	tokenAction = regexp.MustCompile(`^(SendTask(Success|Failure|Heartbeat)|StopExecution)$`)
	// part is a part of a transaction, which needs the permission of the same write outside
	// of one: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html
	part = regexp.MustCompile(`/service/dynamodb/types\.(Put|Update|Delete|ConditionCheck)$`)
)

func main() {
	loaded, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedImports,
	}, "./functions/...", "./internal/...")
	if err != nil {
		log.Fatal(err)
	}
	uses := map[string][]string{}    // what each function of this module mentions, by its full name
	methods := map[string][]string{} // the methods of this module, by name alone: who an interface may lead to
	for _, p := range loaded {
		if len(p.Errors) > 0 {
			log.Fatal(p.Errors[0])
		}
		for _, file := range p.Syntax {
			for _, declared := range file.Decls {
				f, ok := declared.(*ast.FuncDecl)
				if !ok {
					continue
				}
				name := fullName(p.TypesInfo.Defs[f.Name].(*types.Func))
				if f.Recv != nil {
					methods[f.Name.Name] = append(methods[f.Name.Name], name)
				}
				ast.Inspect(f, func(n ast.Node) bool {
					id, ok := n.(*ast.Ident)
					if !ok {
						return true
					}
					switch used := p.TypesInfo.Uses[id].(type) {
					case *types.Func:
						uses[name] = append(uses[name], fullName(used))
					case *types.TypeName:
						if used.Pkg() != nil {
							uses[name] = append(uses[name], used.Pkg().Path()+"."+used.Name())
						}
					}
					return true
				})
			}
		}
	}
	answer := map[string][]string{}
	for _, p := range loaded {
		if p.Name == "main" {
			answer[path.Base(p.PkgPath)] = reached(p.PkgPath+".main", uses, methods)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		log.Fatal(err)
	}
}

// fullName is types.Func.FullName, with a mark for a method of an interface.
func fullName(f *types.Func) string {
	if r := f.Signature().Recv(); r != nil && types.IsInterface(r.Type()) && f.Pkg() != nil { // error has no package
		return fmt.Sprintf("interface %s.%s", f.Pkg().Path(), f.Name())
	}
	return f.Origin().FullName()
}

func reached(from string, uses, methods map[string][]string) []string {
	actions, seen := map[string]bool{}, map[string]bool{}
	for todo := []string{from}; len(todo) > 0; {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[name] {
			continue
		}
		seen[name] = true
		last := name[strings.LastIndex(name, ".")+1:]
		of := strings.HasPrefix(name, "interface "+module)
		if (of || strings.Contains(name, "/service/dynamodb.Client)")) && tableAction.MatchString(last) {
			actions["dynamodb:"+last] = true
		} else if (of || strings.Contains(name, "/service/sfn.Client)")) && tokenAction.MatchString(last) {
			actions["states:"+last] = true
		} else if p := part.FindStringSubmatch(name); p != nil {
			actions["dynamodb:"+p[1]+"Item"] = true
		} else if of {
			todo = append(todo, methods[last]...)
		}
		todo = append(todo, uses[name]...)
	}
	return slices.Sorted(maps.Keys(actions))
}
