package servicetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// edgeNumbers are numbers at the edges of types and notations. Those of the contract are added to
// them.
var edgeNumbers = []string{
	"", "0", "-0", "00", "1", "-1", "01", "1.0", "1.5", "1e3", "1E0", "1e-1", "1e400", "-1e400", "1e-400", "0x10", "1_000", "1,000",
	"2147483647", "2147483648", "-2147483648", "-2147483649", "4294967296", "9007199254740991", "9007199254740992", "9007199254740993",
	"9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551616",
	strings.Repeat("9", 400), "NaN", "Infinity", "-Infinity", "null", "true", "٣", " 1", "1 ", "1\n", "\x00", "1\x00", "\xff",
}

// edgeTexts are texts that are not UTF-8, contain what JSON or PostgreSQL does not, or are long.
var edgeTexts = []string{
	"", " ", "\x00", "a\x00b", "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\ufeff", "\uffff", "\U0010ffff", "%", "%00", "%zz",
	"'", `"`, `\`, `\u0000`, "..", "a/b", strings.Repeat("x", 20_000), strings.Repeat("é", 2000),
}

func edgesOf(s *openapi3.Schema) []string {
	numbers := slices.Clone(edgeNumbers)
	for _, bound := range []*float64{s.Min, s.Max} {
		if bound != nil {
			for d := range int64(3) {
				numbers = append(numbers, strconv.FormatInt(int64(*bound)+d-1, 10))
			}
		}
	}
	return numbers
}

// checkEdge requires that a reply is no failure of the server, and that a refusal of the request
// names what is wrong.
func checkEdge(t *testing.T, what string, r reply) {
	t.Helper()
	if r.StatusCode < 400 || r.Request.Method == http.MethodHead {
		return
	}
	var p problem
	if err := json.Unmarshal(r.body, &p); err != nil || r.StatusCode >= 500 || p.Code == "" || p.Detail == "" {
		t.Errorf("%s: got status %d: %.300s", what, r.StatusCode, r.body)
		return
	}
	if p.Code == "invalid_request" && (len(p.Errors) == 0 || p.Errors[0].Rule == "" || p.Errors[0].Message == "") {
		t.Errorf("%s: refused without a fault: %.300s", what, r.body)
	}
}

// TestEdges makes each call with each parameter and each field at its edges, and at those of the
// types that hold it.
func TestEdges(t *testing.T) {
	t.Parallel()
	s := newService(t)
	zoe := s.login("zoe") // and not alice, whose sessions some calls end
	zoe.enter("lobby")
	operations := map[string]*openapi3.Operation{}
	for _, item := range openapi().Paths.Map() {
		for _, op := range item.Operations() {
			operations[op.OperationID] = op
		}
	}
	tried := 0
	for _, call := range samples(s) {
		if call.id == "streamEvents" || call.id == "streamAdminEvents" {
			continue // an accepted cursor opens a stream, which does not end
		}
		caller := s.unchecked().withKey(call.caller(zoe).SessionKey)
		for _, p := range operations[call.id].Parameters {
			values, isNumber := edgeTexts, p.Value.Schema.Value.Type.Is("integer")
			if isNumber {
				values = edgesOf(p.Value.Schema.Value)
			}
			for _, value := range values {
				tried++
				what := fmt.Sprintf("%s with %s=%.40q", call, p.Value.Name, value)
				switch p.Value.In {
				case "query":
					with := call
					with.path += "?" + p.Value.Name + "=" + url.QueryEscape(value)
					r := with.by(caller, nil)
					checkEdge(t, what, r)
					if isNumber && inBounds(p.Value.Schema.Value, value) == (r.StatusCode == http.StatusBadRequest) {
						t.Errorf("%s: got status %d: %.300s", what, r.StatusCode, r.body)
					}
				case "header":
					if !strings.ContainsAny(value, "\x00\n") { // which no client sends
						checkEdge(t, what, call.by(caller, nil, header(p.Value.Name, value)))
					}
				}
			}
		}
		if call.body == nil {
			continue
		}
		for _, field := range fieldsOf("", call.schema) {
			var values []string // as JSON
			if field.schema.Type.Is("integer") {
				for _, number := range edgesOf(field.schema) {
					values = append(values, number, encoded(t, number))
				}
			}
			for _, text := range edgeTexts {
				values = append(values, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\x00", `\u0000`).Replace(text)+`"`)
			}
			values = append(values, `"\ud800"`, `"\udc00\ud800"`, `{"":{}}`, "[[[[]]]]", `[""]`, `["","\u0000"]`, `{"k":"\u0000"}`, `{"\ud800":""}`)
			for _, value := range values {
				tried++
				body := strings.Replace(encoded(t, replaced(call.body, strings.Split(field.pointer, "/")[1:])), `"@"`, value, 1)
				r := call.by(caller, raw(body))
				what := fmt.Sprintf("%s with %s %.40q", call, field.pointer, value)
				checkEdge(t, what, r)
				if field.schema.Type.Is("integer") && json.Valid([]byte(value)) && !inBounds(field.schema, strings.TrimSpace(value)) && r.StatusCode != http.StatusBadRequest {
					t.Errorf("%s: got status %d: %.300s", what, r.StatusCode, r.body)
				}
			}
		}
	}
	if tried < 5000 {
		t.Errorf("only %d requests were made", tried)
	}
	amy := s.login("amy") // whose quota for files is not used up
	file := amy.upload("a.txt", []byte("four")).Media.URL
	for _, number := range edgeNumbers {
		for _, form := range []string{"bytes=%s-", "bytes=-%s", "bytes=0-%s", "bytes=%s-%[1]s", "%s=0-1"} {
			if value := fmt.Sprintf(form, number); !strings.ContainsAny(value, "\x00\n") {
				checkEdge(t, "Range: "+value, s.unchecked().withKey(amy.SessionKey).call("GET", file, nil, header("Range", value)))
			}
		}
	}
	// The service still works.
	zoe.enter("lobby")
	zoe.send("lobby", "hello")
}

// inBounds reports whether a text is an integer that the contract allows: without a fraction or an
// exponent.
func inBounds(s *openapi3.Schema, text string) bool {
	n, err := strconv.ParseInt(text, 10, 64)
	return err == nil && (s.Min == nil || float64(n) >= *s.Min) && (s.Max == nil || float64(n) <= *s.Max)
}

type edgeField struct {
	pointer string
	schema  *openapi3.Schema
}

// fieldsOf returns the fields of an object and of the objects in it.
func fieldsOf(pointer string, schema *openapi3.Schema) (fields []edgeField) {
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		property := schema.Properties[name].Value
		at := pointer + "/" + name
		fields = append(fields, edgeField{at, property})
		switch {
		case property.Type.Is("array") && property.Items.Value.Type.Is("object") && !strings.Contains(pointer, name):
			fields = append(fields, fieldsOf(at+"/0", property.Items.Value)...)
		case property.Type.Is("object"):
			fields = append(fields, fieldsOf(at, property)...)
		}
	}
	return fields
}

// replaced returns a copy of an object with the text @ at a path. Objects and lists on the way to
// it are created if they are missing.
func replaced(value any, path []string) any {
	if len(path) == 0 {
		return "@"
	}
	if path[0] == "0" {
		list, _ := value.([]any)
		var first any
		if len(list) > 0 {
			first = list[0]
		}
		return []any{replaced(first, path[1:])}
	}
	copied := map[string]any{}
	switch v := value.(type) {
	case object:
		maps.Copy(copied, v)
	case map[string]any:
		maps.Copy(copied, v)
	}
	copied[path[0]] = replaced(copied[path[0]], path[1:])
	return copied
}
