package room

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxFileNameBytes is the longest name of a file, which is the limit of common file systems.
	MaxFileNameBytes = 255
	// maxEndingBytes is the longest ending, with its dot, that a shortened name keeps.
	maxEndingBytes = 32
)

// CleanFileName returns the name of a file. A name is never refused for its characters, because the
// person who uploads a file did not always choose it. Of a path, only the last part is kept, as RFC
// 6266, section 4.3, advises; line breaks and tabs become spaces, and other control characters are
// removed, as is everything that CleanName removes; a name of more than MaxFileNameBytes is cut
// before its ending. The name is empty if nothing is left that can be seen. Cleaning it again
// changes nothing. The only fault is invalid UTF-8.
func CleanFileName(text string) (string, *NameFault) {
	if fault := checkUTF8(text); fault != nil {
		return "", fault
	}
	text = strings.TrimRight(text, `/\`)
	text = text[strings.LastIndexAny(text, `/\`)+1:]
	text = strings.Map(func(c rune) rune {
		switch {
		case !control(c):
			return c
		case blank(c):
			return ' '
		}
		return -1
	}, text)
	name := shorten(strings.TrimFunc(removeHidden(text), blank))
	if name == "." || name == ".." || !strings.ContainsFunc(name, visible) {
		return "", nil
	}
	return name, nil
}

// shorten cuts a name of more than MaxFileNameBytes before its ending.
func shorten(name string) string {
	if len(name) <= MaxFileNameBytes {
		return name
	}
	stem, ending := name, ""
	if dot := strings.LastIndexByte(name, '.'); len(name)-dot <= maxEndingBytes {
		stem, ending = name[:dot], name[dot:]
	}
	return strings.TrimRightFunc(cut(stem, MaxFileNameBytes-len(ending)), blank) + ending
}

// cut returns at most limit bytes of a longer text. It does not split what people see as one
// character: this approximates the grapheme clusters of Unicode Standard Annex #29.
func cut(text string, limit int) string {
	for !utf8.RuneStart(text[limit]) {
		limit--
	}
	for at := limit; at > 0; {
		if !splits(text, at) {
			return text[:at]
		}
		_, size := utf8.DecodeLastRuneInString(text[:at])
		at -= size
	}
	return text[:limit] // all of it is one character
}

// splits reports whether a cut at a position would split a character of several code points.
func splits(text string, at int) bool {
	before, size := utf8.DecodeLastRuneInString(text[:at])
	after, _ := utf8.DecodeRuneInString(text[at:])
	switch {
	case extender(after), skinTone(after), laterJamo(after), before == zeroWidthJoiner:
		return true
	case regional(before) && regional(after): // two of them are a flag
		run := 0
		for regional(before) {
			run++
			at -= size
			before, size = utf8.DecodeLastRuneInString(text[:at])
		}
		return run%2 == 1
	}
	return false
}

func skinTone(c rune) bool { return '\U0001f3fb' <= c && c <= '\U0001f3ff' }

func regional(c rune) bool { return unicode.Is(unicode.Regional_Indicator, c) }

// laterJamo reports whether a Korean letter continues a syllable, in the decomposed form that macOS
// gives to file names.
func laterJamo(c rune) bool {
	return '\u1160' <= c && c <= '\u11ff' || '\ud7b0' <= c && c <= '\ud7ff'
}
