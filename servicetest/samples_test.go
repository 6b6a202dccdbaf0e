package servicetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// sample is a valid call of an operation, built from the contract's examples.
type sample struct {
	id     string
	method string
	path   string
	// template is the path in the contract.
	template string
	body     object            // nil if the call has no body or uploads a file
	optional bool              // the call may be made without the body
	file     bool              // the call uploads a file
	header   map[string]string // required headers
	// keyed means that the call needs a session key, admin that it needs an admin token instead,
	// and roomed that it is a call on the room lobby.
	keyed, admin, roomed bool
	schema               *openapi3.Schema // of the body
}

var samplePath = strings.NewReplacer("/v1/users/{userID}", "/v1/users/peer", "/v1/blocks/{userID}", "/v1/blocks/peer", "/v1/conversations/{userID}", "/v1/conversations/peer",
	"{broadcastID}", "0193507e-9b1e-7c3d-8a10-2f5be1c2d3e4", "{roomID}", "lobby", "{userID}", "alice", "{sessionID}", "0193507e-8f5c-7d5a-9a55-6f3f4c1f2a10",
	"{messageID}", "0193507e-9b1e-7c3d-8a10-2f5be1c2d3e4", "{mediaID}", "3f1c9a52-6e0b-4d5e-9b1a-0c7d2e8f4a61", "{fileName}", "cat.png")

// samples returns a valid call of each operation. Calls with a session key are meant for a member
// of the room lobby.
func samples(s *service) []sample {
	s.Helper()
	var all []sample
	for path, item := range openapi().Paths.Map() {
		for method, op := range item.Operations() {
			if method == http.MethodHead || method == http.MethodOptions {
				continue // its replies have no body that could be checked
			}
			call := sample{
				id: op.OperationID, method: method, path: samplePath.Replace(path), template: path,
				header: make(map[string]string),
				keyed:  wants(op, "sessionKey"), admin: wants(op, "adminToken"), roomed: strings.Contains(path, "{roomID}"),
			}
			for _, p := range op.Parameters {
				if p.Value.In == "query" && p.Value.Required {
					values, ok := p.Value.Example.([]any)
					if !ok {
						s.Fatalf("%s: the parameter %s has no example", op.OperationID, p.Value.Name)
					}
					call.path += fmt.Sprintf("?%s=%s", p.Value.Name, values[0])
				}
				if p.Value.In == "header" && p.Value.Required {
					call.header[p.Value.Name] = "1.0.0" // the version of tus
					if p.Value.Example != nil {
						call.header[p.Value.Name] = encoded(s, p.Value.Example)
					}
				}
			}
			switch {
			case op.RequestBody == nil:
			case op.RequestBody.Value.Content["application/json"] == nil:
				call.file = true
				if op.RequestBody.Value.Content["application/offset+octet-stream"] != nil {
					call.header["Content-Type"] = "application/offset+octet-stream"
				}
			default:
				media := op.RequestBody.Value.Content.Get("application/json")
				example, ok := media.Example.(map[string]any)
				if !ok {
					s.Fatalf("%s has no example", op.OperationID)
				}
				call.optional = !op.RequestBody.Value.Required
				call.body, call.schema = maps.Clone(object(example)), flat(media.Schema.Value)
				if _, ok := call.body["token"]; ok {
					call.body["token"] = s.signed(everyGrant)
				}
			}
			all = append(all, call)
		}
	}
	slices.SortFunc(all, func(a, b sample) int { return strings.Compare(a.id, b.id) })
	return all
}

// wants reports whether an operation accepts this security scheme.
func wants(op *openapi3.Operation, scheme string) bool {
	security := openapi().Security
	if op.Security != nil {
		security = *op.Security
	}
	return slices.ContainsFunc(security, func(schemes openapi3.SecurityRequirement) bool {
		_, ok := schemes[scheme]
		return ok
	})
}

func (p sample) String() string { return p.id }

// caller returns the client that may make the call: c, or an admin.
func (p sample) caller(c *client) *client {
	if p.admin {
		return c.admin()
	}
	return c
}

// by makes the call with a changed body or request.
func (p sample) by(c *client, body any, change ...func(*http.Request)) reply {
	c.Helper()
	switch {
	case body == nil && p.file:
		body = raw("a file")
	case body == nil && p.body != nil:
		body = p.body
	}
	head := func(r *http.Request) {
		for name, value := range p.header {
			r.Header.Set(name, value)
		}
	}
	return c.call(p.method, p.path, body, append([]func(*http.Request){head}, change...)...)
}

// badBody is a body that must be rejected, with the expected problem.
type badBody struct {
	what, body string
	code       string // malformed_json, or invalid_request with the fault below
	pointer    string
	rule       string
}

// badBodies returns bodies with each fault that the call's body can have.
func (p sample) badBodies(t testing.TB) []badBody {
	t.Helper()
	good := encoded(t, p.body)
	var all []badBody
	if !p.optional {
		all = append(all, badBody{what: "white space", body: " \n", code: "malformed_json"})
	}
	for what, body := range map[string]string{
		"no JSON": "hello", "no end": good[:len(good)-1], "an end too many": good + "}", "two objects": good + good,
		"a value behind": good + "0", "a comma too many": good[:len(good)-1] + ",}", "single quotes": strings.ReplaceAll(good, `"`, `'`),
		"a comment": "/**/" + good, "a byte order mark": "\ufeff" + good, "UTF-16": "\xff\xfe{\x00}\x00", "not a number": `{"x":NaN}`,
		"a name without quotes": `{x:1}`, "an unknown name in invalid UTF-8": "{\"\xff\":1}", "a half surrogate as name": `{"\ud800":1}`,
		"a raw NUL": "{\x00}",
	} {
		all = append(all, badBody{what: what, body: body, code: "malformed_json"})
	}
	for what, body := range map[string]string{
		"an array": "[" + good + "]", "text": `"text"`, "a number": "1", "a truth": "true", "null": "null",
	} {
		all = append(all, badBody{what: what, body: body, rule: "type"})
	}
	for what, body := range map[string]string{
		"depth": strings.Repeat("[", 50_000), "depth in a field": `{"x":` + strings.Repeat("[", 17) + strings.Repeat("]", 17) + "}",
	} {
		all = append(all, badBody{what: what, body: body, rule: "depth"})
	}
	all = append(all, badBody{what: "width", body: `{"x":[` + strings.Repeat("{},", 9000) + "{}]}", rule: "containers"})
	return append(all, p.badFields(t, "", p.schema, p.body, func(fields string) string { return fields })...)
}

// badFields returns bodies with each fault in the fields of the object at a pointer. good is a
// valid object, and within puts the object's JSON into a body.
func (p sample) badFields(t testing.TB, pointer string, schema *openapi3.Schema, good map[string]any, within func(string) string) []badBody {
	t.Helper()
	required := ""
	for _, name := range schema.Required {
		required += fmt.Sprintf("%q:%s,", name, encoded(t, good[name]))
	}
	var all []badBody
	add := func(what, name, rule, fields string) {
		code := ""
		if rule == "malformed" {
			code, rule = "malformed_json", ""
		}
		all = append(all, badBody{
			what: name + ": " + what, body: within("{" + strings.TrimSuffix(fields, ",") + "}"), code: code, pointer: pointer + "/" + name, rule: rule,
		})
	}
	add("unknown", "unheardOf", "unknown", required+`"unheardOf":1`)
	add("unknown and escaped", "a~1b~0c", "unknown", required+`"a/b~c":1`)
	for name, property := range schema.Properties {
		s := flat(property.Value)
		others := strings.ReplaceAll(required, fmt.Sprintf("%q:%s,", name, encoded(t, good[name])), "")
		with := func(value string) string { return others + fmt.Sprintf("%q:%s", name, value) }
		capital := strings.ToUpper(name[:1]) + name[1:]
		add("in capitals", capital, "unknown", required+fmt.Sprintf("%q:%s", capital, `"x"`))
		add("null", name, "type", with("null"))
		if slices.Contains(schema.Required, name) {
			add("missing", name, "required", others)
		}
		wrong := []string{"true", "[]"}
		switch {
		case s.AdditionalProperties.Schema != nil: // any keys are allowed
			wrong = append(wrong, `"x"`, "1")
			for what, pair := range map[string]string{"a number": `"k":1`, "an object": `"k":{}`, "null": `"k":null`} {
				add(what, name+"/k", "type", with("{"+pair+"}"))
			}
			add("a key twice", name+"/k", "duplicate", with(`{"k":"1","\u006b":"2"}`))
			add("a NUL", name+"/k", "nul", with(`{"k":"\u0000"}`))
			add("no key", name+"/", "keyBytes", with(`{"":"x"}`))
			most := int(s.Extensions["x-maxKeyBytes"].(float64))
			long, tooLong := strings.Repeat("é", most/2), strings.Repeat("é", most/2)+"/"
			add("a key too long", name+"/"+strings.Replace(tooLong, "/", "~1", 1), "keyBytes", with(fmt.Sprintf("{%q:%q,%q:%q}", long, "", tooLong, "")))
			most = int(s.AdditionalProperties.Schema.Value.Extensions["x-maxBytes"].(float64))
			add("a value too long", name+"/~0", "maxBytes", with(fmt.Sprintf(`{"~":%q}`, strings.Repeat("é", most/2)+"x")))
			add("twice", name, "duplicate", with("{}")+fmt.Sprintf(",%q:{}", name))
		case s.Type.Is("array") && flat(s.Items.Value).Type.Is("object"):
			wrong = []string{"true", `"x"`, "1", "{}"}
			add("twice", name, "duplicate", with("[]")+fmt.Sprintf(",%q:[]", name))
			item := flat(s.Items.Value)
			inner, ok := item.Example.(map[string]any)
			if !ok {
				t.Fatalf("%s: the items of %s have no example", p, name)
			}
			add("too many", name, "max", with("["+strings.Repeat(encoded(t, inner)+",", int(*s.MaxItems))+encoded(t, inner)+"]"))
			if strings.Contains(pointer, name) {
				break // the type is recursive
			}
			all = append(all, p.badFields(t, pointer+"/"+name+"/0", item, inner, func(fields string) string { return within("{" + with("["+fields+"]") + "}") })...)
		case s.Type.Is("array"):
			wrong = []string{"true", `"x"`, "1", "{}"}
			for what, item := range map[string]string{"a number": "1", "an array": "[]", "null": "null"} {
				add(what, name+"/1", "type", with(`["a",`+item+`]`))
			}
			add("one twice", name, "unique", with(`["a","b","a"]`))
			long := strings.Repeat("x", int(*s.Items.Value.MaxLength)+1)
			rule := "maxBytes"
			if s.Items.Value.Pattern != "" {
				rule = "userID"
			}
			add("one too long", name+"/1", rule, with(fmt.Sprintf(`["a",%q]`, long)))
			tooMany := make([]string, *s.MaxItems+1)
			for i := range tooMany {
				tooMany[i] = fmt.Sprint("a", i)
			}
			add("too many", name, "max", with(encoded(t, tooMany)))
			if s.MinItems > 0 {
				add("too few", name, "min", with("[]"))
			}
		case s.Type.Is("object"):
			wrong = append(wrong, `"x"`, "1")
			inner, _ := good[name].(map[string]any)
			all = append(all, p.badFields(t, pointer+"/"+name, s, inner, func(fields string) string { return within("{" + with(fields) + "}") })...)
			add("twice", name, "duplicate", with("{}")+fmt.Sprintf(",%q:{}", name))
		case s.Type.Is("boolean"):
			wrong = []string{`"true"`, "1", "{}", "[]"}
			add("twice", name, "duplicate", with("true")+fmt.Sprintf(",%q:true", name))
		case s.Type.Is("integer"):
			wrong = append(wrong, `"5"`, "{}", "30.5", "123456789012345678901234567890")
			add("twice", name, "duplicate", with("30")+fmt.Sprintf(",%q:30", name))
			add("too small", name, "min", with(fmt.Sprint(int(*s.Min)-1)))
			add("too large", name, "max", with(fmt.Sprint(int(*s.Max)+1)))
		default:
			wrong = append(wrong, "1", "{}")
			good := encoded(t, good[name])
			if p.body[name] == nil {
				good = `"x"`
			}
			add("twice", name, "duplicate", with(good)+fmt.Sprintf(",%q:%s", name, good))
			add("twice, once escaped", name, "duplicate", with(good)+fmt.Sprintf(`,"\u%04x%s":%s`, name[0], name[1:], good))
			add("with an escaped NUL", name, "nul", with(`"a\u0000b"`))
			add("with a raw NUL", name, "malformed", with("\"a\x00b\""))
			add("with a raw line break", name, "malformed", with("\"a\nb\""))
			add("with invalid UTF-8", name, "malformed", with("\"a\xffb\""))
			add("with overlong UTF-8", name, "malformed", with("\"a\xc0\xafb\""))
			add("with a high surrogate", name, "malformed", with(`"a\ud83d"`))
			add("with a low surrogate", name, "malformed", with(`"a\udf89"`))
			switch {
			case s.Format == "date-time":
				add("empty", name, "instant", with(`""`))
			case slices.Contains(schema.Required, name):
				add("empty", name, "required", with(`""`))
			case s.Enum != nil:
				add("empty", name, "oneof", with(`""`))
			case s.MinLength > 0:
				add("empty", name, "min", with(`""`))
			}
			if s.Enum != nil {
				add("another word", name, "oneof", with(`"other"`))
			}
		}
		for _, value := range wrong {
			add(value, name, "type", with(value))
		}
	}
	return all
}

// flat returns an object with the fields of all variants of a union, or s if it is none. A field
// that not all variants have may be empty, because the server takes an empty one for an absent one.
func flat(s *openapi3.Schema) *openapi3.Schema {
	if s.OneOf == nil {
		return s
	}
	all := openapi3.NewObjectSchema()
	all.Example = s.Example
	in := make(map[string]int) // the number of variants that have a field
	for _, variant := range s.OneOf {
		all.Required = variant.Value.Required // of the last one; fields that not all have are removed below
		for name, property := range variant.Value.Properties {
			in[name]++
			field := *property.Value
			if known := all.Properties[name]; known != nil {
				field.Enum = slices.Concat(known.Value.Enum, field.Enum)
			}
			all.WithProperty(name, &field)
		}
	}
	for name, n := range in {
		if n < len(s.OneOf) {
			all.Properties[name].Value.MinLength, all.Properties[name].Value.MinItems = 0, 0
		}
	}
	all.Required = slices.DeleteFunc(slices.Clone(all.Required), func(name string) bool { return in[name] < len(s.OneOf) })
	return all
}

func encoded(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
