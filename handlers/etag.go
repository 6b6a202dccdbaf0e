package handlers

import (
	"net/http"
	"strconv"
	"strings"

	"parlor/room"
)

// etag returns the strong entity tag of a version.
func etag(version room.Seq) string { return strconv.Quote(strconv.FormatInt(int64(version), 10)) }

// ifMatch returns the versions in the If-Match header of a request; nil means any.
func ifMatch(r *http.Request) ([]room.Seq, error) {
	versions, ok := parseIfMatch(r.Header.Values("If-Match"))
	if !ok {
		return nil, invalid(fault{"header/If-Match", "etag", `must be * or entity tags such as "47"`})
	}
	return versions, nil
}

// parseIfMatch parses the If-Match fields of a request. "*" matches every version. Weak tags, and
// tags that this server did not create, match none (RFC 9110, sections 8.8.3 and 13.1.1).
func parseIfMatch(fields []string) (versions []room.Seq, ok bool) {
	if len(fields) == 0 {
		return nil, true
	}
	rest := strings.Join(fields, ",") // all fields are one list: section 5.3
	if strings.Trim(rest, " \t") == "*" {
		return nil, true
	}
	versions = []room.Seq{}
	for tags := 0; ; tags++ {
		rest = strings.TrimLeft(rest, " \t,") // elements may be empty: section 5.6.1
		if rest == "" {
			return versions, tags > 0
		}
		tag, weak := strings.CutPrefix(rest, "W/")
		tag, opened := strings.CutPrefix(tag, `"`)
		tag, after, closed := strings.Cut(tag, `"`)
		if !opened || !closed || strings.ContainsFunc(tag, invalidInTag) {
			return nil, false
		}
		if n, err := strconv.ParseInt(tag, 10, 64); err == nil && n >= 0 && !weak && etag(room.Seq(n)) == `"`+tag+`"` {
			versions = append(versions, room.Seq(n))
		}
		rest = strings.TrimLeft(after, " \t")
		if rest != "" && rest[0] != ',' {
			return nil, false
		}
	}
}

// invalidInTag reports whether an entity tag cannot contain the character.
func invalidInTag(c rune) bool { return c <= ' ' || c == 0x7f }
