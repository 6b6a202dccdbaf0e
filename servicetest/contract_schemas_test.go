package servicetest

import (
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
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
