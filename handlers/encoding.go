package handlers

import (
	"net/http"
	"strconv"
	"strings"
)

// acceptsGzip reports whether a client prefers gzip to no compression, by RFC 9110, section 12.5.3.
// One that does not say which encodings it accepts may not know any.
func acceptsGzip(h http.Header) bool {
	const unset = -1
	gzip, identity, others := float64(unset), float64(unset), float64(unset)
	for _, field := range h.Values("Accept-Encoding") {
		for element := range strings.SplitSeq(field, ",") {
			coding, parameter, _ := strings.Cut(element, ";")
			q := quality(parameter)
			switch strings.ToLower(strings.TrimSpace(coding)) {
			case "gzip", "x-gzip":
				gzip = max(gzip, q)
			case "identity":
				identity = q
			case "*":
				others = q
			}
		}
	}
	if gzip == unset {
		gzip = others
	}
	return gzip > 0 && gzip >= identity
}

// quality returns the weight of a parameter such as "q=0.5"; 0 if it is not valid.
func quality(parameter string) float64 {
	name, value, found := strings.Cut(strings.TrimSpace(parameter), "=")
	if name == "" && !found {
		return 1
	}
	q, err := strconv.ParseFloat(value, 64)
	if !strings.EqualFold(name, "q") || err != nil || !(q >= 0 && q <= 1) {
		return 0
	}
	return q
}
