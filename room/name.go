package room

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Names that people see are cleaned when they enter. Nothing in them can break a line, hide, or
// change the order of the text around them, and something in them can be seen. The properties are
// those of package unicode, whose Version says of which Unicode.

// maxExtenders is the largest number of marks and joiners after one character. Unicode Technical
// Standard #39, section 5.4, suggests 4 for identifiers; pointed Hebrew and Tibetan have a few
// more.
const maxExtenders = 8

// NameFault says why a text cannot be a name.
type NameFault struct {
	Rule    string // utf8, control, invisible or maxBytes
	Message string // for people, without a subject: "contains a line break…"
}

// CleanName returns a name for display: the text without what removeHidden removes, and without
// blanks at both ends. Cleaning it again changes nothing. A text has a fault if it has
// invalid UTF-8 or a control character between others, if nothing in it can be seen, or if the name
// is longer than maxBytes.
func CleanName(text string, maxBytes int) (string, *NameFault) {
	if fault := checkUTF8(text); fault != nil {
		return "", fault
	}
	name := strings.TrimFunc(removeHidden(text), blank)
	at := 0
	for _, c := range name {
		if at++; control(c) {
			return "", &NameFault{"control", fmt.Sprintf("contains %s (%U) at character %d: remove it", controlName(c), c, at)}
		}
	}
	switch {
	case !strings.ContainsFunc(name, visible):
		return "", &NameFault{"invisible", "contains no visible character: use at least one letter, digit or symbol"}
	case len(name) > maxBytes:
		return "", &NameFault{"maxBytes", fmt.Sprintf("is %d bytes long: shorten it to at most %d", len(name), maxBytes)}
	}
	return name, nil
}

func checkUTF8(text string) *NameFault {
	for i, c := range text {
		if c == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)) {
			return &NameFault{"utf8", fmt.Sprintf("is not valid UTF-8 at byte %d: encode it as UTF-8", i+1)}
		}
	}
	return nil
}

// removeHidden returns a text without characters that cannot be seen and have no effect on the ones
// beside them, without bidirectional controls, and without marks and joiners that nothing carries.
func removeHidden(text string) string {
	var kept strings.Builder
	kept.Grow(len(text))
	var last rune // the last character that was kept
	room := 0     // how many more extenders the last character can carry
	for _, c := range text {
		switch {
		case hidden(c), tag(c) && last != blackFlag && !tag(last):
			continue
		case extender(c):
			if room == 0 {
				continue
			}
			room--
		case blank(c):
			room = 0
		default:
			room = maxExtenders
		}
		kept.WriteRune(c)
		last = c
	}
	return kept.String()
}

const (
	zeroWidthJoiner = '\u200d'
	blackFlag       = '\U0001f3f4' // with tags behind it, the flag of a region such as Scotland
)

// hidden reports whether removeHidden removes every occurrence of a character: the format
// characters (Cf) and unassigned default ignorables that do not shape the text. All bidirectional
// controls are among them, and the soft hyphen, the byte order mark, and blanks and joiners without
// a width.
func hidden(c rune) bool {
	return unicode.In(c, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point) &&
		!unicode.In(c, unicode.L, unicode.Prepended_Concatenation_Mark) && !hieroglyphFormat(c) && !extender(c)
}

// extender reports whether a character changes how the one before it looks: marks, which include
// the variation selectors of emoji and of Japanese names; the joiners of emoji, and of Persian,
// Sinhala and Mongolian; and tags.
func extender(c rune) bool {
	return unicode.Is(unicode.M, c) || unicode.Is(unicode.Join_Control, c) || c == '\u180e' || tag(c)
}

func tag(c rune) bool { return '\U000e0020' <= c && c <= '\U000e007f' }

// hieroglyphFormat reports whether a format character arranges Egyptian hieroglyphs.
func hieroglyphFormat(c rune) bool { return '\U00013430' <= c && c <= '\U0001343f' }

// blank reports whether a character is white space, or a symbol or letter that is drawn as nothing:
// the Braille pattern without dots, the Hangul fillers, the null notehead and blank hieroglyphs.
func blank(c rune) bool {
	switch c {
	case '\u2800', '\u3164', '\uffa0', '\U0001d159', '\U00013441', '\U00013442':
		return true
	}
	return unicode.Is(unicode.White_Space, c)
}

// visible reports whether a character draws something by itself. A character that is newer than
// package unicode counts as visible, because most of these are emoji.
func visible(c rune) bool {
	if blank(c) || control(c) || extender(c) {
		return false
	}
	return !unicode.In(c, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point) || unicode.Is(unicode.Prepended_Concatenation_Mark, c)
}

// control reports whether a character controls devices or breaks lines, or is reserved for the
// internal use of programs.
func control(c rune) bool {
	return unicode.In(c, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Noncharacter_Code_Point)
}

// controlName returns what people call a control character.
func controlName(c rune) string {
	switch c {
	case '\n', '\v', '\f', '\r', '\u0085', '\u2028', '\u2029':
		return "a line break"
	case '\t':
		return "a tab"
	}
	if unicode.Is(unicode.Noncharacter_Code_Point, c) {
		return "a code point that is not a character"
	}
	return "a control character"
}
