package handlers

import (
	"fmt"
	"strings"
)

// contentDisposition returns the header with the name of a file (RFC 6266). A name that cannot be
// in quotes as it is gets two forms: filename* has all of it (RFC 8187), and filename replaces
// what some clients misread, for those that do not know filename*.
func contentDisposition(disposition, name string) string {
	var fallback, extended strings.Builder
	for _, c := range name {
		if c < ' ' || c > '~' || strings.ContainsRune(`"\%`, c) {
			fallback.WriteByte('_')
		} else {
			fallback.WriteRune(c)
		}
		for _, b := range []byte(string(c)) {
			if attrChar(b) {
				extended.WriteByte(b)
			} else {
				fmt.Fprintf(&extended, "%%%02X", b)
			}
		}
	}
	header := disposition + `; filename="` + fallback.String() + `"`
	if fallback.String() != name {
		header += "; filename*=UTF-8''" + extended.String()
	}
	return header
}

// attrChar reports whether a byte may be in filename* without an escape (RFC 8187, section 3.2.1).
func attrChar(b byte) bool {
	return '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z' || strings.IndexByte("!#$&+-.^_`|~", b) >= 0
}
