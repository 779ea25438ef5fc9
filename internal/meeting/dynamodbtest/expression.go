package dynamodbtest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"
)

// expressions are the expressions of a request, with their names and values.
type expressions struct {
	names  map[string]string
	values map[string]Value
	used   map[string]bool

	tokens []string
}

func newExpressions(r Request) *expressions {
	return &expressions{names: r.ExpressionAttributeNames, values: r.ExpressionAttributeValues, used: map[string]bool{}}
}

// operand returns a value, or nil if it is missing.
type operand func(Item) Value

//go:embed reserved.txt
var reservedText string

// reserved has DynamoDB's reserved words.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html
var reserved = func() map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(reservedText) {
		m[w] = true
	}
	return m
}()

func (e *expressions) scan(text string) {
	e.tokens = nil
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(rest) {
		n := 1
		switch c := rest[0]; {
		case strings.HasPrefix(rest, "<>"), strings.HasPrefix(rest, "<="), strings.HasPrefix(rest, ">="):
			n = 2
		case c == '#' || c == ':' || word(c):
			for n < len(rest) && word(rest[n]) {
				n++
			}
		}
		e.tokens, rest = append(e.tokens, rest[:n]), rest[n:]
	}
}

func word(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func (e *expressions) peek() string {
	if len(e.tokens) == 0 {
		return ""
	}
	return e.tokens[0]
}

func (e *expressions) take() string {
	t := e.peek()
	if t != "" {
		e.tokens = e.tokens[1:]
	}
	return t
}

func (e *expressions) accept(t string) bool {
	if !strings.EqualFold(e.peek(), t) {
		return false
	}
	e.take()
	return true
}

func (e *expressions) expect(t string) error {
	if !e.accept(t) {
		return invalid("Invalid expression: Syntax error; token: %q, wanted %q", e.peek(), t)
	}
	return nil
}

// finish rejects names and values that were not used.
func (e *expressions) finish() error {
	for n := range e.names {
		if !e.used[n] {
			return invalid("Value provided in ExpressionAttributeNames unused in expressions: keys: {%s}", n)
		}
	}
	for v := range e.values {
		if !e.used[v] {
			return invalid("Value provided in ExpressionAttributeValues unused in expressions: keys: {%s}", v)
		}
	}
	return nil
}

func (e *expressions) path() (string, error) {
	t := e.take()
	switch {
	case strings.HasPrefix(t, "#"):
		name, ok := e.names[t]
		if !ok {
			return "", invalid("Invalid expression: An expression attribute name used in the document path is not defined; attribute name: %s", t)
		}
		e.used[t] = true
		return name, nil
	case t == "" || !word(t[0]) || '0' <= t[0] && t[0] <= '9':
		return "", invalid("Invalid expression: Syntax error; token: %q", t)
	case reserved[strings.ToUpper(t)]:
		return "", invalid("Invalid expression: Attribute name is a reserved keyword; reserved keyword: %s", t)
	}
	return t, nil
}

func (e *expressions) operand() (operand, error) {
	if t := e.peek(); strings.HasPrefix(t, ":") {
		v, ok := e.values[t]
		if !ok {
			return nil, invalid("Invalid expression: An expression attribute value used in expression is not defined; attribute value: %s", t)
		}
		e.take()
		e.used[t] = true
		return func(Item) Value { return v }, nil
	}
	name, err := e.path()
	return func(i Item) Value { return i[name] }, err
}

func (e *expressions) projection(text string) (func(Item) Item, error) {
	if text == "" {
		return func(i Item) Item { return i }, nil
	}
	e.scan(text)
	var names []string
	for {
		name, err := e.path()
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		if !e.accept(",") {
			break
		}
	}
	if len(e.tokens) > 0 {
		return nil, invalid("Invalid ProjectionExpression: Syntax error; token: %q", e.peek())
	}
	return func(i Item) Item {
		only := Item{}
		for _, n := range names {
			if v, ok := i[n]; ok {
				only[n] = v
			}
		}
		return only
	}, nil
}

func (e *expressions) condition(text string) (func(Item) bool, error) {
	if text == "" {
		return nil, nil
	}
	e.scan(text)
	c, err := e.either()
	if err == nil && len(e.tokens) > 0 {
		err = invalid("Invalid ConditionExpression: Syntax error; token: %q", e.peek())
	}
	return c, err
}

func (e *expressions) either() (func(Item) bool, error) {
	a, err := e.both()
	for err == nil && e.accept("OR") {
		var b func(Item) bool
		one := a
		b, err = e.both()
		a = func(i Item) bool { return one(i) || b(i) }
	}
	return a, err
}

func (e *expressions) both() (func(Item) bool, error) {
	a, err := e.not()
	for err == nil && e.accept("AND") {
		var b func(Item) bool
		one := a
		b, err = e.not()
		a = func(i Item) bool { return one(i) && b(i) }
	}
	return a, err
}

func (e *expressions) not() (func(Item) bool, error) {
	if e.accept("NOT") {
		c, err := e.not()
		return func(i Item) bool { return !c(i) }, err
	}
	if e.accept("(") {
		c, err := e.either()
		if err == nil {
			err = e.expect(")")
		}
		return c, err
	}
	for function, want := range map[string]bool{"attribute_exists": true, "attribute_not_exists": false} {
		if e.peek() != function { // functions are lower case, keywords any case
			continue
		}
		e.take()
		if err := e.expect("("); err != nil {
			return nil, err
		}
		name, err := e.path()
		if err == nil {
			err = e.expect(")")
		}
		return func(i Item) bool { _, ok := i[name]; return ok == want }, err
	}
	a, err := e.operand()
	if err != nil {
		return nil, err
	}
	if e.accept("IN") {
		if err := e.expect("("); err != nil {
			return nil, err
		}
		var list []operand
		for {
			b, err := e.operand()
			if err != nil {
				return nil, err
			}
			list = append(list, b)
			if !e.accept(",") {
				break
			}
		}
		return func(i Item) bool {
			return slices.ContainsFunc(list, func(b operand) bool { return Equal(a(i), b(i)) })
		}, e.expect(")")
	}
	op := e.take()
	b, err := e.operand()
	if err != nil {
		return nil, err
	}
	switch op {
	case "=":
		return func(i Item) bool { return Equal(a(i), b(i)) }, nil
	case "<>":
		return func(i Item) bool { return !Equal(a(i), b(i)) }, nil
	case "<", "<=", ">", ">=":
		return func(i Item) bool { return ordered(op, a(i), b(i)) }, nil
	}
	return nil, invalid("Invalid expression: Syntax error; token: %q", op)
}

// Equal compares two values as DynamoDB does; a missing value equals nothing.
func Equal(a, b Value) bool {
	if a == nil || b == nil {
		return false
	}
	if x, y := number(a), number(b); x != nil && y != nil {
		return x.Cmp(y) == 0
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

func ordered(op string, a, b Value) bool {
	var c int
	if x, y := number(a), number(b); x != nil && y != nil {
		c = x.Cmp(y)
	} else if x, ok := a["S"].(string); ok {
		y, ok := b["S"].(string)
		if !ok {
			return false
		}
		c = strings.Compare(x, y)
	} else {
		return false
	}
	switch op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

func number(v Value) *big.Rat {
	s, ok := v["N"].(string)
	if !ok {
		return nil
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return nil
	}
	return r
}

func (e *expressions) update(text string) (func(Item) error, error) {
	e.scan(text)
	type change struct {
		name string
		to   func(old Item) (Value, error) // nil removes
	}
	var changes []change
	seen, sections := map[string]bool{}, map[string]bool{}
	for len(e.tokens) > 0 {
		section := strings.ToUpper(e.take())
		if sections[section] {
			return nil, invalid("Invalid UpdateExpression: The %q section can only be used once in an update expression;", section)
		}
		sections[section] = true
		for {
			name, err := e.path()
			if err != nil {
				return nil, err
			}
			c := change{name: name}
			switch section {
			case "SET":
				if err := e.expect("="); err != nil {
					return nil, err
				}
				from, err := e.operand()
				if err != nil {
					return nil, err
				}
				c.to = func(old Item) (Value, error) {
					if v := from(old); v != nil {
						return v, nil
					}
					return nil, invalid("The provided expression refers to an attribute that does not exist in the item")
				}
			case "ADD":
				by, err := e.operand()
				if err != nil {
					return nil, err
				}
				c.to = func(old Item) (Value, error) {
					n := number(by(old))
					if v, ok := old[name]; ok && n != nil {
						was := number(v)
						if was == nil {
							return nil, invalid("An operand in the update expression has an incorrect data type")
						}
						n.Add(n, was)
					}
					if n == nil {
						return nil, invalid("Invalid UpdateExpression: Incorrect operand type for operator or function; operator: ADD")
					}
					return Value{"N": n.RatString()}, nil
				}
			case "REMOVE":
			default:
				return nil, invalid("Invalid UpdateExpression: Syntax error; token: %q", section)
			}
			if name == KeyName {
				return nil, invalid("One or more parameter values were invalid: Cannot update attribute %s. This attribute is part of the key", name)
			}
			if seen[name] {
				return nil, invalid("Invalid UpdateExpression: Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [%s], path two: [%s]", name, name)
			}
			seen[name] = true
			changes = append(changes, c)
			if !e.accept(",") {
				break
			}
		}
	}
	return func(i Item) error {
		old := maps.Clone(i) // each part of an update sees the item before it
		for _, c := range changes {
			if c.to == nil {
				delete(i, c.name)
				continue
			}
			v, err := c.to(old)
			if err != nil {
				return err
			}
			i[c.name] = v
		}
		return nil
	}, nil
}
