package servicetest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"parlor/room"
)

// maxRefusal is the maximum size of an error reply in bytes, for any request.
const maxRefusal = 16 << 10

// TestRefusalsAreSmall checks the size of error replies. A body of 88 KB with nested messages once
// caused a reply of 190 MB, because each fault had a pointer as long as the nesting was deep.
func TestRefusalsAreSmall(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	repeated := func(head, each string, n int, tail string) string { return head + strings.Repeat(each, n) + tail }
	bodies := map[string]string{
		"messages in each other": repeated(`{"kind":"text","messageList":[`, `{"messageList":[`, 4900, "") + strings.Repeat("]}", 4901),
		"no end":                 repeated(`{"kind":"text","messageList":[`, `{"messageList":[`, 15_000, ""),
		"many messages":          repeated(`{"kind":"combine","messageList":[`, "{},", 80_000, "{}]}"),
		"messages of messages": repeated(`{"kind":"combine","messageList":[`,
			repeated(`{"messageList":[`, "{},", 80, "{}]},"), 90, "{}]}"),
		"many fields":     repeated("{", `"x":1,`, 40_000, `"x":1}`),
		"a long name":     `{"` + strings.Repeat("<", 200_000) + `":1}`,
		"many attributes": repeated(`{"set":{"12345678901234567":"",`, `"\u003c":"",`, 20_000, `"x":""},"delete":["y"]}`),
		"long attributes": `{"set":{"` + strings.Repeat("~", 100_000) + `":"","` + strings.Repeat("<", 100_000) + `":""}}`,
		"many names":      repeated(`{"userIDs":[`, `"",`, 80_000, `""],"reason":""}`),
	}
	for _, p := range samples(s) {
		if p.body == nil {
			continue
		}
		for what, body := range bodies {
			if r := p.by(p.caller(alice), raw(body)); r.StatusCode != http.StatusBadRequest || len(r.body) > maxRefusal {
				t.Errorf("%s, %s: status %d, reply of %d bytes to a body of %d: %.200s", p, what, r.StatusCode, len(r.body), len(body), r.body)
			}
		}
	}
	queries := map[string]string{
		"many parameters":  repeated("", "a%3C=&b=&", 4000, "") + distinct(9000),
		"a long parameter": strings.Repeat("%3C", 12_000) + "=1",
		"a long value":     "limit=" + strings.Repeat("9", 30_000) + "&after=" + strings.Repeat("%3C", 9000),
		"not well-formed":  strings.Repeat("%", 30_000),
	}
	for what, query := range queries {
		for _, path := range []string{"/v1/events", roomPath("lobby", "/messages"), roomPath("lobby", "/members"), "/v1/media/x/y"} {
			if r := alice.unchecked().withKey(alice.SessionKey).call("GET", path+"?"+query, nil); r.StatusCode < 400 || len(r.body) > maxRefusal {
				t.Errorf("%s, %s: status %d, reply of %d bytes to a query of %d: %.200s", path, what, r.StatusCode, len(r.body), len(query), r.body)
			}
		}
		if r := s.unchecked().call("GET", "/v1/media/x/y?signature=&"+query, nil); r.StatusCode < 400 || len(r.body) > maxRefusal {
			t.Errorf("without a key, %s: status %d, reply of %d bytes to a query of %d: %.200s", what, r.StatusCode, len(r.body), len(query), r.body)
		}
	}
	long := strings.Repeat("%3C", 15_000)
	for _, path := range []string{"/" + long, "/v1/rooms/" + long, "/v1/media/" + long + "/" + long} {
		if r := alice.unchecked().withKey(alice.SessionKey).call("GET", path, nil); r.StatusCode < 400 || len(r.body) > maxRefusal {
			t.Errorf("a long path: status %d, reply of %d bytes: %.200s", r.StatusCode, len(r.body), r.body)
		}
	}
}

// distinct returns a query with n different parameters, cut to 30,000 bytes.
func distinct(n int) string {
	q := make(url.Values, n)
	for i := range n {
		q[string(rune(0x4e00+i))] = []string{""}
	}
	return q.Encode()[:30_000/9*9+3] // cut at the end of an escape
}

// TestLargestCombinedMessages checks that the limits against hostile bodies do not reject the
// largest combined messages that the contract allows.
func TestLargestCombinedMessages(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	quote := `{"kind":"text","text":"{[\"\\","sender":{"userID":"a","userName":"a"},"sentAt":"2026-01-01T00:00:00Z"}`
	list := func(of string, n int) string { return strings.Repeat(of+",", n-1) + of }
	combined := func(of string, n int) string {
		return `{"kind":"combine","title":"t","messageList":[` + list(of, n) + `],"sender":{"userID":"a","userName":"a"},"sentAt":"2026-01-01T00:00:00Z"}`
	}
	for _, body := range []string{
		`{"kind":"combine","title":"t","messageList":[` + list(combined(quote, room.MaxCombined), 22) + `]}`,
		`{"kind":"combine","title":"t","messageList":[` + combined(combined(quote, room.MaxCombined), 20) + `]}`,
	} {
		alice.call("POST", roomPath("lobby", "/messages"), raw(body)).is(http.StatusCreated)
	}
}
