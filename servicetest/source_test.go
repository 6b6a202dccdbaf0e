package servicetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Values that must be the same in two places are read from one place's source and compared with the
// other, so that tests do not repeat them.

// source parses the files of a package, except its tests.
func source(t *testing.T, dir string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// find calls visit with each node of a type.
func find[N ast.Node](files []*ast.File, visit func(N)) {
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if n, ok := n.(N); ok {
				visit(n)
			}
			return true
		})
	}
}

// constants returns the values of a package's string constants of one type.
func constants(t *testing.T, dir, typ string) []string {
	t.Helper()
	var values []string
	find(source(t, dir), func(spec *ast.ValueSpec) {
		if !named(spec.Type, typ) {
			return
		}
		for _, v := range spec.Values {
			values = append(values, literal(t, v))
		}
	})
	if len(values) == 0 {
		t.Fatalf("%s has no constants of type %s", dir, typ)
	}
	return values
}

// named reports whether an expression is the identifier name.
func named(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// literal returns the value of a string literal.
func literal(t *testing.T, e ast.Expr) string {
	t.Helper()
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		t.Fatalf("got %T, want a string literal", e)
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
