package handlers

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"parlor/room"
)

// FuzzDecode checks that a request that is accepted contains all that was sent, and that any other
// is rejected with a problem.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		`{}`, `{"roomID":"a#b","roomName":"é","config":{"memberTimeout":30,"maxMembers":2}}`, `{"kind":"text","text":"\ud83c\udf89","priority":"low"}`,
		`{"token":"a.b.c","device":""}`, `{"roomID":"a","roomID":"b"}`, `{"text":null}`, `{"text":"\u0000"}`, `{"text":"\ud800"}`, "{\"text\":\"\xff\"}",
		`{"a/b":1}`, `{"config":{"memberTimeout":1e2}}`, `{"config":{"memberTimeout":-0}}`, `[]`, `{} {}`, ` `, "\ufeff{}", `{"text":"\/"}`,
	} {
		for which := range len(requestTypes) {
			f.Add(which, []byte(body))
		}
	}
	a := &api{validate: newValidator()}
	f.Fuzz(func(t *testing.T, which int, body []byte) {
		if which < 0 {
			which = -(which + 1)
		}
		request := reflect.New(requestTypes[which%len(requestTypes)])
		err := parse(body, request.Interface())
		if err == nil {
			keepsAll(t, body, request.Interface())
			err = a.check(request.Interface())
		}
		var p *problem
		if err != nil && (!errors.As(err, &p) || p.Status != 400) {
			t.Errorf("%q is rejected with %v", body, err)
		}
		if p != nil && !utf8.ValidString(p.Error()) {
			t.Errorf("the problem for %q is not valid UTF-8", body)
		}
	})
}

var requestTypes = []reflect.Type{
	reflect.TypeFor[createSessionRequest](), reflect.TypeFor[renewTokenRequest](), reflect.TypeFor[createRoomRequest](),
	reflect.TypeFor[enterRoomRequest](), reflect.TypeFor[joinRoomRequest](), reflect.TypeFor[switchRoomRequest](), reflect.TypeFor[sendMessageRequest](), reflect.TypeFor[developmentTokenRequest](),
	reflect.TypeFor[kickRequest](), reflect.TypeFor[adminCreateRoomRequest](), reflect.TypeFor[adminSendMessageRequest](),
	reflect.TypeFor[updateRoomRequest](), reflect.TypeFor[updateRoomAttributesRequest](), reflect.TypeFor[updateMemberAttributesRequest](),
	reflect.TypeFor[updateStatusRequest](), reflect.TypeFor[subscribeStatusesRequest](),
}

// keepsAll checks that a request contains all that was sent, unchanged, according to a lenient
// parser.
func keepsAll(t *testing.T, body []byte, request any) {
	t.Helper()
	if !utf8.Valid(body) || bytes.ContainsRune(body, 0) {
		t.Fatalf("%q is accepted", body)
	}
	var sent, kept map[string]any
	if err := json.Unmarshal(body, &sent); err != nil {
		t.Fatalf("%q is accepted, but is not JSON: %v", body, err)
	}
	again, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &kept); err != nil {
		t.Fatal(err)
	}
	contains(t, body, sent, kept)
}

func contains(t *testing.T, body []byte, sent, kept map[string]any) {
	t.Helper()
	for name, value := range sent {
		if nested, ok := value.(map[string]any); ok {
			inner, _ := kept[name].(map[string]any)
			contains(t, body, nested, inner)
		} else if !reflect.DeepEqual(value, kept[name]) {
			t.Errorf("%q: got %v for %s", body, kept[name], name)
		}
		if s, ok := value.(string); ok && strings.ContainsRune(s, 0) {
			t.Errorf("%q is accepted with a NUL", body)
		}
	}
}

// FuzzMemberCursor checks that every accepted text is a position in a list, and that there is
// exactly one way to write it.
func FuzzMemberCursor(f *testing.F) {
	for _, c := range []room.MemberCursor{{JoinedSeq: 1, User: "alice"}, {JoinedSeq: math.MaxInt64, User: "a.b"}, {JoinedSeq: 7, User: "..."}} {
		f.Add(encodeMemberCursor(c))
	}
	for _, text := range []string{"0.a", "-1.a", "1", "1.", "1..", "01.a", "+1.a", "1.a b", "9999999999999999999.a", "1.a\x00"} {
		f.Add(base64.RawURLEncoding.EncodeToString([]byte(text)))
	}
	f.Add("")
	f.Add("MS5h\n")
	f.Add("MS5hYR")
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := parseMemberCursor(s)
		if !ok {
			return
		}
		if c.JoinedSeq <= 0 || !c.User.Valid() {
			t.Errorf("%q was parsed as %+v", s, c)
		}
		if again := encodeMemberCursor(c); again != s {
			t.Errorf("%q is encoded as %q", s, again)
		}
	})
}

// FuzzFeedCursor checks that every accepted text is a position in the feed, and that there is
// exactly one way to write it, which the contract allows.
func FuzzFeedCursor(f *testing.F) {
	for _, c := range []room.FeedCursor{{}, {Xact: 1, Log: 2, Seq: 3}, {Xact: math.MaxUint64, Log: math.MaxInt64, Seq: math.MaxInt64}} {
		f.Add(string(appendFeedCursor(nil, c)))
	}
	for _, text := range []string{"", ".", "..", "1.1", "01.1.1", "+1.1.1", "-0.0.0", "A.1.1", "1.1.1.1", "1_0.1.1", "3w5e11264sgsg.0.0"} {
		f.Add(text)
	}
	pattern := regexp.MustCompile(loadContract(f).Components.Schemas["FeedCursor"].Value.Pattern)
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := parseFeedCursor(s)
		if !ok {
			return
		}
		if c.Log < 0 || c.Seq < 0 || c.Before(room.FeedCursor{}) {
			t.Errorf("%q was parsed as %+v", s, c)
		}
		if again := string(appendFeedCursor(nil, c)); again != s || !pattern.MatchString(s) {
			t.Errorf("%q is encoded as %q", s, again)
		}
	})
}

// FuzzIfMatch compares the parser of If-Match with its grammar (RFC 9110, sections 5.6.1, 8.8.3 and
// 13.1.1).
func FuzzIfMatch(f *testing.F) {
	for _, header := range []string{
		`*`, `"47"`, `W/"47"`, `"1", "2"`, `,"1",,"2" ,`, `"047"`, `"x,y"`, `""`, `"47`, `47`, `"1" "2"`, `*, "1"`, "\t\"1\"\t", "\"\xff\"", `"9223372036854775808"`, ``,
	} {
		f.Add(header)
	}
	const tag = `(?:W/)?"[^\x00-\x20"\x7f]*"`
	list := regexp.MustCompile(`^[ \t,]*` + tag + `(?:[ \t]*,[ \t,]*` + tag + `)*(?:[ \t]*,[ \t,]*|[ \t]*)$`)
	tags := regexp.MustCompile(tag)
	ownTag := regexp.MustCompile(`^"(0|[1-9][0-9]{0,18})"$`)
	f.Fuzz(func(t *testing.T, header string) {
		var want []room.Seq
		valid := strings.Trim(header, " \t") == "*"
		if !valid && list.MatchString(header) {
			valid, want = true, []room.Seq{}
			for _, tag := range tags.FindAllString(header, -1) {
				if m := ownTag.FindStringSubmatch(tag); m != nil {
					if n, err := strconv.ParseInt(m[1], 10, 64); err == nil {
						want = append(want, room.Seq(n))
					}
				}
			}
		}
		got, ok := parseIfMatch([]string{header})
		if ok != valid || ok && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %v, %t, want %v, %t", header, got, ok, want, valid)
		}
	})
}
