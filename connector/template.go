package connector

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"
)

// A template is text with expressions in double braces: https://{{host}}/v1/{{lower(name)}}.
// It is parsed once into a list of parts. What an expression comes to is escaped for the
// place the part stands in and joined with the others; it is never parsed again.
//
// Most expressions are the name of a variable, with dots into what has members, and
// may have dashes: {{Store-URL}}. Everything else is an expression of expr-lang/expr with
// the functions of function.go, without loops and assignments.
type template struct {
	parts []part
	names []string // of the variables it uses
}

type part struct {
	literal string

	expression string // as it is written
	name       string // of the variable, when it is nothing but one
	program    *vm.Program
	names      []string // of the variables it uses
	position   position // where its value goes
}

func (p *part) dynamic() bool { return p.expression != "" }

// Limits on what a definition can make us compute.
const (
	maxNodes  = 200       // of one expression
	maxOutput = 256 << 10 // bytes of one value or template
	maxMemory = 10_000    // elements that one expression may make
)

// masked stands in a preview for what is secret.
const masked = "••••••••"

// variable tells whether s is the name of a variable and nothing else.
func variable(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case i > 0 && (c >= '0' && c <= '9' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return s != "" && s[len(s)-1] != '-' && s[len(s)-1] != '.'
}

// parseTemplate parses text. Positions are up to the caller.
func parseTemplate(text string) (*template, error) {
	t := &template{}
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "{{")
		if before != "" {
			t.parts = append(t.parts, part{literal: before})
		}
		if !found {
			break
		}
		end := closing(after)
		if end < 0 {
			return nil, errors.New("{{ without }}")
		}
		expression := strings.TrimSpace(after[:end])
		if expression == "" {
			return nil, errors.New("there is nothing between {{ and }}")
		}
		p := part{expression: expression}
		if variable(expression) && expression != "true" && expression != "false" && expression != "nil" {
			p.name, p.names = expression, []string{expression}
		} else {
			var err error
			if p.program, p.names, err = compileExpression(expression); err != nil {
				return nil, fmt.Errorf("{{%s}}: %w", expression, err)
			}
		}
		t.parts = append(t.parts, p)
		t.names = append(t.names, p.names...)
		rest = after[end+2:]
	}
	return t, nil
}

// closing is where the }} that ends an expression is, outside of its quotes and braces; -1 if nowhere.
func closing(s string) int {
	depth, quote := 0, byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0:
			if c == '\\' && quote != '`' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"', c == '\'', c == '`':
			quote = c
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case c == '}' && strings.HasPrefix(s[i:], "}}"):
			return i
		}
	}
	return -1
}

// exprOptions are the same for all expressions.
var exprOptions = sync.OnceValue(func() []expr.Option {
	provided := map[string]any{}
	for name := range scoped {
		provided[called(name)] = scopedFunction
	}
	options := []expr.Option{
		expr.Env(provided),
		expr.AllowUndefinedVariables(),
		expr.MaxNodes(maxNodes),
		expr.DisableAllBuiltins(),
	}
	for name, f := range functions {
		options = append(options, expr.Function(called(name), f))
	}
	return options
})

// called is the name of a function for expr, so that a variable may have the same one.
func called(name string) string { return name + "()" }

// scopedFunction has the type of the functions that a scope provides.
func scopedFunction(...any) (any, error) { return "", nil }

func compileExpression(text string) (*vm.Program, []string, error) {
	if len(text) > 4096 {
		return nil, nil, errors.New("the expression is longer than 4,096 characters")
	}
	v := &visitor{callees: map[*ast.IdentifierNode]bool{}, members: map[*ast.IdentifierNode]string{}}
	program, err := expr.Compile(text, append(slices.Clone(exprOptions()), expr.Patch(v))...)
	if v.err != nil {
		return nil, nil, v.err
	}
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, nil, errors.New(first)
	}
	return program, v.names(), nil
}

// visitor finds the variables that an expression uses, and what it must not.
type visitor struct {
	identifiers []*ast.IdentifierNode
	callees     map[*ast.IdentifierNode]bool
	members     map[*ast.IdentifierNode]string // what is taken of an identifier, if it is one member
	err         error
}

func (v *visitor) Visit(n *ast.Node) {
	switch n := (*n).(type) {
	case *ast.IdentifierNode:
		v.identifiers = append(v.identifiers, n)
	case *ast.MemberNode:
		id, ok := n.Node.(*ast.IdentifierNode)
		if name, fixed := n.Property.(*ast.StringNode); ok && fixed {
			v.members[id] = name.Value
		}
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			v.callees[id] = true
			if _, known := functions[id.Value]; !known && !scoped[id.Value] {
				v.err = fmt.Errorf("there is no function %s", id.Value)
			}
			id.Value = called(id.Value)
		} else {
			v.err = errors.New("only functions can be called")
		}
	case *ast.VariableDeclaratorNode:
		v.err = errors.New("let is not part of the language; use vars")
	case *ast.SequenceNode, *ast.PredicateNode, *ast.PointerNode:
		v.err = errors.New("loops and sequences are not part of the language")
	case *ast.BuiltinNode:
		v.err = fmt.Errorf("there is no function %s", n.Name)
	case *ast.BinaryNode:
		if n.Operator == ".." || n.Operator == "**" || n.Operator == "^" {
			v.err = fmt.Errorf("the operator %s is not part of the language", n.Operator)
		}
	}
}

// names are the variables; of request, each member on its own, because some cost more than others.
func (v *visitor) names() []string {
	var names []string
	for _, id := range v.identifiers {
		name := id.Value
		if member := v.members[id]; name == "request" && member != "" {
			name += "." + member
		}
		if !v.callees[id] && name != "$env" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// scope is what templates are evaluated in: variables, and a clock. A scope inside of
// another one sees its variables. It belongs to one goroutine.
type scope struct {
	outer  *scope
	values map[string]any
	secret map[string]bool // which of them must not be shown
	mask   bool            // evaluate to what may be shown
	clock  *clock
	seen   *[]string // collects the secret values that were used, when not nil
	lazy   map[string]func() (string, error)
}

// clock is where time and chance come from; a recorded case has its own.
type clock struct {
	now    func() time.Time
	random func() [16]byte
	zone   *time.Location // of now(); nil is UTC
}

func (s *scope) inner() *scope {
	return &scope{outer: s, values: map[string]any{}, secret: map[string]bool{}, mask: s.mask, clock: s.clock, seen: s.seen}
}

// later sets a variable that is computed when it is used first.
func (s *scope) later(name string, secret bool, compute func() (string, error)) {
	if s.lazy == nil {
		s.lazy = map[string]func() (string, error){}
	}
	s.set(name, "", secret)
	s.lazy[name] = compute
}

// compute sets the variables of vars.
func (s *scope) compute(vars []pair) {
	for _, v := range vars {
		s.later(v.name, v.value.secret(s), func() (string, error) {
			text, err := v.value.eval(s)
			if err != nil {
				return "", fmt.Errorf("%s: %w", v.name, err)
			}
			return text, nil
		})
	}
}

// resolve computes a variable that was set for later.
func (s *scope) resolve(name string) error {
	first, _, _ := strings.Cut(name, ".")
	for sc := s; sc != nil; sc = sc.outer {
		compute := sc.lazy[first]
		if compute == nil {
			if _, ok := sc.values[first]; ok {
				return nil
			}
			continue
		}
		delete(sc.lazy, first)
		text, err := compute()
		if err != nil {
			sc.lazy[first] = compute
			return err
		}
		sc.values[first] = text
		return nil
	}
	return nil
}

func (s *scope) set(name string, value any, secret bool) {
	s.values[name] = value
	s.secret[name] = secret
}

// lookup finds a variable: by its whole name, else by the first part of it and then members.
func (s *scope) lookup(name string) (value any, secret, ok bool) {
	for sc := s; sc != nil; sc = sc.outer {
		if v, ok := sc.values[name]; ok {
			return v, sc.secret[name], true
		}
	}
	first, rest, dotted := strings.Cut(name, ".")
	if !dotted {
		return nil, false, false
	}
	v, secret, ok := s.lookup(first)
	for ok && rest != "" {
		if h, is := v.(headers); is { // one that is not there is empty
			return h[rest], secret, true
		}
		var m map[string]any
		if m, ok = v.(map[string]any); !ok {
			break
		}
		if v, ok = m[rest]; ok {
			return v, secret, true
		}
		first, rest, _ = strings.Cut(rest, ".")
		v, ok = m[first]
	}
	return v, secret, ok
}

// env is everything as expr wants it.
func (s *scope) env() map[string]any {
	env := map[string]any{called("now"): s.clock.format, called("uuid"): s.clock.uuid, called("nonce"): s.clock.nonce, called("totp"): s.clock.totp}
	var chain []*scope
	for sc := s; sc != nil; sc = sc.outer {
		chain = append(chain, sc)
	}
	for _, sc := range slices.Backward(chain) {
		for name, value := range sc.values {
			env[name] = value
		}
	}
	return env
}

// unset tells whether a variable is empty, and is not computed later.
func (s *scope) unset(name string) bool {
	for sc := s; sc != nil; sc = sc.outer {
		if v, ok := sc.values[name]; ok {
			return v == "" && sc.lazy[name] == nil
		}
	}
	return false
}

// secretive tells whether p uses a secret.
func (s *scope) secretive(p *part) bool {
	for _, name := range p.names {
		if _, secret, ok := s.lookup(name); ok && secret {
			return true
		}
	}
	return false
}

// value is what the expression of p comes to. In a mask, it is masked when a secret goes into it.
func (s *scope) value(p *part) (any, error) {
	for _, name := range p.names {
		if _, _, ok := s.lookup(name); !ok {
			return nil, fmt.Errorf("there is no variable %s", name)
		}
	}
	secret := s.secretive(p)
	if secret && s.mask {
		if p.name != "" && s.unset(p.name) {
			return "", nil
		}
		return masked, nil
	}
	for _, name := range p.names {
		if err := s.resolve(name); err != nil {
			return nil, err
		}
	}
	if p.program == nil {
		v, _, _ := s.lookup(p.name)
		if secret {
			s.note(v)
		}
		return v, nil
	}
	machine := vm.VM{MemoryBudget: maxMemory}
	v, err := machine.Run(p.program, s.env())
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		if secret { // the text may quote a value
			first = "it cannot be computed"
		}
		return nil, fmt.Errorf("{{%s}}: %s", p.expression, first)
	}
	if secret {
		s.note(v)
	}
	return v, nil
}

func (s *scope) note(v any) {
	if text, ok := v.(string); ok && s.seen != nil && len(text) > 0 {
		*s.seen = append(*s.seen, text)
	}
}

// string is what the expression of p comes to, as text.
func (s *scope) string(p *part) (string, error) {
	v, err := s.value(p)
	if err != nil {
		return "", err
	}
	text, err := textOf(v)
	if err == nil && len(text) > maxOutput {
		err = fmt.Errorf("{{%s}} comes to more than %d KiB", p.expression, maxOutput>>10)
	}
	return text, err
}

// textOf writes a value as text; nil is empty.
func textOf(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case []byte:
		return string(v), nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// eval joins the parts of t, each escaped for its position.
func (t *template) eval(s *scope) (string, error) {
	if t == nil {
		return "", nil
	}
	if len(t.parts) == 1 && !t.parts[0].dynamic() {
		return t.parts[0].literal, nil
	}
	var b strings.Builder
	for i := range t.parts {
		p := &t.parts[i]
		if !p.dynamic() {
			b.WriteString(p.literal)
			continue
		}
		text, err := s.string(p)
		if err != nil {
			return "", err
		}
		if s.mask && text == masked {
			b.WriteString(text)
			continue
		}
		if text, err = p.position.escape(text); err != nil {
			return "", fmt.Errorf("the value of %s %w", p.expression, err)
		}
		b.WriteString(text)
		if b.Len() > maxOutput {
			return "", fmt.Errorf("comes to more than %d KiB", maxOutput>>10)
		}
	}
	return b.String(), nil
}

// literal is the text of t if it has no expressions.
func (t *template) literal() (string, bool) {
	switch {
	case t == nil || len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && !t.parts[0].dynamic():
		return t.parts[0].literal, true
	}
	return "", false
}

// secret tells whether a secret goes into t.
func (t *template) secret(s *scope) bool {
	return t != nil && slices.ContainsFunc(t.parts, func(p part) bool { return s.secretive(&p) })
}

// single is the only part of t, if that is an expression.
func (t *template) single() *part {
	if len(t.parts) == 1 && t.parts[0].dynamic() {
		return &t.parts[0]
	}
	return nil
}
