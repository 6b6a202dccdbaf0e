package servicetest

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	contract "parlor"
)

// placedSchema is a schema of the contract and a place in which it is used.
type placedSchema struct {
	at     string // the operation and a path in it
	schema *openapi3.Schema
	sent   bool // clients send it; otherwise the server does
}

// schemasOf returns the schemas of all requests, replies and events, each once for either
// direction.
func schemasOf(doc *openapi3.T) []placedSchema {
	type use struct {
		schema *openapi3.Schema
		sent   bool
	}
	var (
		all    []placedSchema
		walked = make(map[use]bool)
		walk   func(at string, ref *openapi3.SchemaRef, sent bool)
	)
	walk = func(at string, ref *openapi3.SchemaRef, sent bool) {
		if ref == nil || walked[use{ref.Value, sent}] {
			return
		}
		walked[use{ref.Value, sent}] = true
		s := ref.Value
		all = append(all, placedSchema{at, s, sent})
		for name, property := range s.Properties {
			walk(at+"/"+name, property, sent)
		}
		walk(at+"/[]", s.Items, sent)
		walk(at+"/*", s.AdditionalProperties.Schema, sent)
		for _, part := range slices.Concat(s.AllOf, s.AnyOf, s.OneOf) {
			walk(at, part, sent)
		}
	}
	content := func(at string, c openapi3.Content, sent bool) {
		for mediaType, media := range c {
			walk(at+" "+mediaType, media.Schema, sent)
		}
	}
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			for _, p := range slices.Concat(item.Parameters, op.Parameters) {
				walk(op.OperationID+" "+p.Value.In+"/"+p.Value.Name, p.Value.Schema, true)
			}
			if op.RequestBody != nil {
				content(op.OperationID, op.RequestBody.Value.Content, true)
			}
			for status, response := range op.Responses.Map() {
				content(op.OperationID+" "+status, response.Value.Content, false)
				for name, header := range response.Value.Headers {
					walk(op.OperationID+" "+status+" "+name, header.Value.Schema, false)
				}
			}
		}
	}
	for name, ref := range doc.Components.Schemas {
		if strings.HasSuffix(name, "Event") {
			walk(name, ref, false)
		}
	}
	return all
}

// TestContractGenerators checks what makes generators fail or produce wrong clients.
func TestContractGenerators(t *testing.T) {
	t.Parallel()
	// Generators put all components into one namespace, without case and punctuation.
	components := openapi().Components
	owners := make(map[string]string)
	own := func(kind, name string) {
		plain := strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
		if owner, taken := owners[plain]; taken {
			t.Errorf("%s %s has the name of %s", kind, name, owner)
		}
		owners[plain] = kind + " " + name
	}
	for name := range components.Schemas {
		own("the schema", name)
	}
	for name := range components.Parameters {
		own("the parameter", name)
	}
	for name := range components.Headers {
		own("the header", name)
	}
	for name := range components.RequestBodies {
		own("the request body", name)
	}
	for name := range components.Responses {
		own("the response", name)
	}
	for path, item := range openapi().Paths.Map() {
		for method, op := range item.Operations() {
			if op.Description == "" {
				t.Errorf("%s %s has no description", method, path)
			}
			fields := make(map[string]string)
			for _, p := range slices.Concat(item.Parameters, op.Parameters) {
				field := strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(p.Value.Name))
				if other, taken := fields[field]; taken {
					t.Errorf("%s: the parameters %s and %s get the same name", op.OperationID, p.Value.Name, other)
				}
				fields[field] = p.Value.Name
			}
			if op.RequestBody != nil && op.RequestBody.Value.Content["*/*"] != nil {
				t.Errorf("%s takes */*, which generators do not take for bytes", op.OperationID)
			}
		}
	}
	// Each union names its variants, so that generators can tell them apart.
	kinds := components.Schemas["MessageKind"].Value.Enum
	for name, ref := range components.Schemas {
		if union := ref.Value; union.OneOf != nil && (union.Discriminator == nil || len(union.Discriminator.Mapping) != len(union.OneOf)) {
			t.Errorf("%s is a union whose discriminator does not name each variant", name)
		} else if union.OneOf != nil && union.Discriminator.PropertyName == "kind" && len(union.OneOf) != len(kinds) {
			t.Errorf("%s has %d of %d kinds", name, len(union.OneOf), len(kinds))
		}
	}
	if anchor := regexp.MustCompile(`(?m)(: |- )[&*]\w+`).Find(contract.Contract); anchor != nil {
		t.Errorf("the contract has the YAML anchor %q, which some generators cannot read", anchor)
	}
	// Some generators make one call for an operation, and send a form if there may be one, but with
	// the fields of the first body.
	if body := regexp.MustCompile(`\n +\S+/\S+:\n +schema: \{.*\n +multipart/form-data:`).Find(contract.Contract); body != nil {
		t.Errorf("a form must be before other bodies, but is after\n%s", body)
	}
}

// TestContractEventUnions compares the unions of events, from which generators make types, with
// x-sse-events.
func TestContractEventUnions(t *testing.T) {
	t.Parallel()
	for operationID, name := range map[string]string{"streamEvents": "StreamEvent", "streamAdminEvents": "FeedEvent"} {
		want := make(map[string]string)
		for event, declared := range declaredEvents()[operationID] {
			want[event] = "#/components/schemas/" + declared.Schema
		}
		got := make(map[string]string)
		for event, variant := range openapi().Components.Schemas[name].Value.Discriminator.Mapping {
			frame := openapi().Components.Schemas[strings.TrimPrefix(variant.Ref, "#/components/schemas/")].Value
			got[event] = frame.Properties["data"].Ref
			if names := frame.Properties["event"].Value.Enum; len(names) != 1 || names[0] != event {
				t.Errorf("%s: the event %s has the names %v", name, event, names)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: in x-sse-events (-) and in the union (+):\n%s", name, diff)
		}
	}
}

// TestContractCompatibility checks that a client of today can read what a server of tomorrow sends,
// and that strict decoders can read it.
func TestContractCompatibility(t *testing.T) {
	t.Parallel()
	both := make(map[*openapi3.Schema]bool)
	for _, placed := range schemasOf(parseContract()) {
		s := placed.schema
		open := s.AdditionalProperties.Has == nil || *s.AdditionalProperties.Has
		fixed := s.Type.Is("object") && s.AdditionalProperties.Schema == nil // it has fields, not any keys
		switch {
		case s.Nullable:
			t.Errorf("%s may be null: a field without a value is absent", placed.at)
		case fixed && placed.sent && open:
			t.Errorf("%s is an open request: unknown fields are refused", placed.at)
		case fixed && !placed.sent && !open:
			t.Errorf("%s is a closed reply or event: clients would refuse a new field", placed.at)
		case s.Type.Is("integer") && s.Format == "int64" && !placed.sent && (s.Max == nil || *s.Max > maxExact):
			t.Errorf("%s may be larger than a number in JavaScript", placed.at)
		case fixed && both[s]:
			t.Errorf("%s is used in requests and in replies", placed.at)
		}
		both[s] = true
	}
	if matches("MemberCountReply", []byte(`{"count":1,"more":2}`)) == nil {
		t.Error("the tests accept fields that the contract lacks")
	}
}

// maxExact is the largest integer up to which all have an exact representation in JavaScript.
const maxExact = 1<<53 - 1
