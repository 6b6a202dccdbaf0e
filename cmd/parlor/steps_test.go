package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"testing"
)

// TestStepsRunInOrder rejects tests that range over a map of functions. Such a map contains steps,
// and a test whose steps run in another order each time fails only sometimes. Steps belong in a
// slice; cases that are only data may be in a map.
func TestStepsRunInOrder(t *testing.T) {
	t.Parallel()

	for _, p := range listPackages(t) {
		for _, tests := range [][]string{slices.Concat(p.GoFiles, p.TestGoFiles), p.XTestGoFiles} {
			for _, at := range rangesOverSteps(t, p.Dir, tests) {
				t.Errorf("%s: this map contains functions: make it a slice, so that they always run in the same order", at)
			}
		}
	}
}

// TestStepsAreFound checks that rangesOverSteps finds loops over steps, and only those.
func TestStepsAreFound(t *testing.T) {
	t.Parallel()

	folder := t.TempDir()
	write(t, folder, "steps_test.go", `package steps
import "testing"
type step struct{ name string; do func() }
func Test(t *testing.T) {
	for range map[string]func(*testing.T){} {}
	steps := map[int]step{}
	for range steps {}
	for range map[string]string{"only": "data"} {}
	for range []step{} {}
}`)
	if found := rangesOverSteps(t, folder, []string{"steps_test.go"}); len(found) != 2 {
		t.Errorf("found %v, want lines 5 and 7", found)
	}
}

// rangesOverSteps returns the positions in a package's files where a loop ranges over a map of
// functions, or of structs that contain functions. Imported packages are not loaded, which leaves
// some types unknown, but no map of functions.
func rangesOverSteps(t *testing.T, folder string, names []string) (found []token.Position) {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(fset, filepath.Join(folder, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	info := &types.Info{Types: make(map[ast.Expr]types.TypeAndValue)}
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	_, _ = config.Check(folder, fset, files, info) //nolint:errcheck // unknown types of imported packages
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			loop, ok := n.(*ast.RangeStmt)
			if !ok {
				return true
			}
			if of, ok := info.TypeOf(loop.X).(*types.Map); ok && isStep(of.Elem()) {
				found = append(found, fset.Position(loop.Pos()))
			}
			return true
		})
	}
	return found
}

// isStep reports whether a type is a function or a struct with a function in it.
func isStep(t types.Type) bool {
	switch t := t.Underlying().(type) {
	case *types.Signature:
		return true
	case *types.Struct:
		for field := range t.Fields() {
			if _, ok := field.Type().Underlying().(*types.Signature); ok {
				return true
			}
		}
	}
	return false
}

// noImports imports packages as empty ones.
type noImports struct{}

func (noImports) Import(path string) (*types.Package, error) {
	p := types.NewPackage(path, filepath.Base(path))
	p.MarkComplete()
	return p, nil
}
