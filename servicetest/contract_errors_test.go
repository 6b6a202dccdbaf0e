package servicetest

import (
	"go/ast"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
)

// failure is the fixed part of an error code: its status and, for errors of package room, its text.
type failure struct {
	status int
	detail string
}

// failures reads the codes from the source: errors of package room, and problems of package
// handlers.
func failures(t *testing.T) map[string]failure {
	t.Helper()
	kinds := map[string]int{
		"Invalid": 400, "Unauthenticated": 401, "Forbidden": 403, "NotFound": 404, "Conflict": 409, "Outdated": 412, "Exhausted": 429,
		"Unavailable": 503, "Internal": 500,
	}
	all := make(map[string]failure)
	find(source(t, "../room"), func(e *ast.CompositeLit) {
		if named(e.Type, "Error") && len(e.Elts) == 3 {
			kind, _ := e.Elts[0].(*ast.Ident)
			all[literal(t, e.Elts[1])] = failure{kinds[kind.Name], literal(t, e.Elts[2])}
		}
	})
	statuses := map[string]int{
		"StatusBadRequest": 400, "StatusNotFound": 404, "StatusMethodNotAllowed": 405, "StatusRequestEntityTooLarge": 413,
		"StatusRequestTimeout": 408, "StatusConflict": 409, "StatusPreconditionFailed": 412, "StatusRequestedRangeNotSatisfiable": 416,
		"StatusUnsupportedMediaType": 415, "StatusTooManyRequests": 429, "StatusInternalServerError": 500,
		"StatusServiceUnavailable": 503,
		"StatusGone":               410, "StatusInsufficientStorage": 507,
	}
	find(source(t, "../handlers"), func(call *ast.CallExpr) {
		if !named(call.Fun, "newProblem") {
			return
		}
		status, ok := call.Args[0].(*ast.SelectorExpr)
		if !ok {
			return // it only translates errors of package room
		}
		f := failure{status: statuses[status.Sel.Name]}
		if _, fixed := call.Args[2].(*ast.BasicLit); fixed {
			f.detail = literal(t, call.Args[2])
		}
		all[literal(t, call.Args[1])] = f
	})
	for code, f := range all {
		if f.status == 0 {
			t.Errorf("no status found for the code %s", code)
		}
	}
	return all
}

func TestContractErrorCodes(t *testing.T) {
	t.Parallel()
	promised := make(map[string]bool)
	for _, code := range openapi().Components.Schemas["Problem"].Value.Properties["code"].Value.Enum {
		promised[code.(string)] = true
	}
	made := make(map[string]bool)
	for code := range failures(t) {
		made[code] = true
	}
	if diff := cmp.Diff(promised, made); diff != "" {
		t.Errorf("in the contract (-) and in the code (+):\n%s", diff)
	}
}

// TestContractProblemExamples compares the problem examples in the contract with those that the
// service sends.
func TestContractProblemExamples(t *testing.T) {
	t.Parallel()
	known := failures(t)
	check := func(where string, response *openapi3.ResponseRef) {
		media := response.Value.Content["application/problem+json"]
		if media == nil {
			return
		}
		example, _ := media.Example.(map[string]any)
		code, _ := example["code"].(string)
		f := known[code]
		want := map[string]any{
			"type": "/docs/errors#" + code, "title": http.StatusText(f.status), "status": float64(f.status), "code": code, "detail": f.detail,
		}
		if f.detail == "" || code == "token_invalid" || code == "token_expired" { // these say which rule was broken
			want["detail"] = example["detail"]
		}
		if errors, ok := example["errors"]; ok {
			want["errors"] = errors
		}
		if diff := cmp.Diff(want, example); diff != "" {
			t.Errorf("%s: sent (-) and in the contract (+):\n%s", where, diff)
		}
	}
	for path, item := range openapi().Paths.Map() {
		for method, op := range item.Operations() {
			for status, response := range op.Responses.Map() {
				check(method+" "+path+" "+status, response)
			}
		}
	}
}

// TestContractErrorsPage compares docs/errors.md, to which the type of each problem points, with
// the code.
func TestContractErrorsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	// The heading is the code, so that it is also the anchor. The section has the status, the
	// meaning and what to do.
	form := regexp.MustCompile(`(?s)^(\w+)\n\n\*\*(\d+) ([\w ]+)\.\*\* \S.*\n\n\*\*Do:\*\* \S.*\n$`)
	documented := make(map[string]int)
	for _, section := range strings.Split(string(page), "\n### ")[1:] {
		m := form.FindStringSubmatch(section)
		if m == nil {
			t.Errorf("a section lacks its code, status, meaning or what to do:\n%s", section)
			continue
		}
		status, err := strconv.Atoi(m[2])
		if err != nil || http.StatusText(status) != m[3] {
			t.Errorf("%s: the text of status %d is not %q", m[1], status, m[3])
		}
		documented[m[1]] = status
	}
	made := make(map[string]int)
	for code, f := range failures(t) {
		made[code] = f.status
	}
	if diff := cmp.Diff(made, documented); diff != "" {
		t.Errorf("in the code (-) and in docs/errors.md (+):\n%s", diff)
	}
}
