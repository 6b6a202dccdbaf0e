package room_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"parlor/room"
)

// names are names that stay as they are.
var names = []string{
	"Alice", "O'Brien", "Anne-Marie d'Arc", "X Æ A-12", "李明", "田中　太郎", "김철수", "Nguyễn Văn An", "ก้อง",
	"יוסף כהן", "דָּוִד בֶּן־גֻּרְיוֹן", "د. يوسف", "AB שלום 12",
	"علی\u200cرضا",                               // Persian, with a joiner that keeps two letters apart
	"ශ්\u200dරී",                                 // Sinhala, with a joiner that combines two letters
	"葛󠄀城",                                        // Japanese, with a variation selector
	"ᠪᠣᠯᠣᠷᠮ\u180eᠠ",                              // Mongolian, with a vowel separator
	"👩‍👩‍👧‍👦 family",                             // joined emoji
	"❤️", "👍🏽", "🇩🇪🇫🇷", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "1️⃣", "🏳️‍🌈", // selectors, skin tone, flags, a keycap
	"ཨོཾ་མ་ཎི་པདྨེ་ཧཱུྃ", // Tibetan, with stacked letters
	"e\u0301",                        // not composed, and not changed
	"\u115f\u1161",                   // a Korean vowel with the filler before it
	"\u0600 12",                      // an Arabic number sign, which is a format character that can be seen
	"\U00013000\U00013430\U00013001", // hieroglyphs above each other
	"\ue000",                         // of a font's own
	"\U0001fadf",                     // newer than the tables
	"\ufffd",
	"a\u3000b", "a\u00a0b", "a  b",
}

func TestNamesStayAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, name := range names {
		if got, fault := room.CleanName(name, 256); fault != nil || got != name {
			t.Errorf("%q (%+q) becomes %+q: %v", name, name, got, fault)
		}
		if got, fault := room.CleanFileName(name + ".txt"); fault != nil || got != name+".txt" {
			t.Errorf("the file %q (%+q) becomes %+q: %v", name, name, got, fault)
		}
	}
}

func TestCleanName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ what, text, want, rule, message string }{
		{"blanks at the ends", " \t\r\n\u00a0\u3000Alice \u2028\n", "Alice", "", ""},
		{"a Braille blank and fillers at the ends", "\u2800\u3164Alice\uffa0", "Alice", "", ""},
		{"a right-to-left override", "\u202eecilA", "ecilA", "", ""},
		{"isolates", "\u2068Alice\u2069", "Alice", "", ""},
		{"a number copied from contacts", "\u202d+49 30 1234\u202c", "+49 30 1234", "", ""},
		{"direction marks", "\u200eAlice\u200f\u061c", "Alice", "", ""},
		{"a byte order mark", "\ufeffAlice", "Alice", "", ""},
		{"a soft hyphen", "Ali\u00adce", "Alice", "", ""},
		{"blanks without a width", "A\u200bli\u2060ce", "Alice", "", ""},
		{"a blank without a width before a blank", "\u200b Alice \u200b", "Alice", "", ""},
		{"annotations", "\ufff9Alice\ufffaBob\ufffb", "AliceBob", "", ""},
		{"tags without a flag", "Alice\U000e0068\U000e0069 \U000e0041", "Alice", "", ""},
		{"more tags than a flag has", "🏴" + strings.Repeat("\U000e0061", 20), "🏴" + strings.Repeat("\U000e0061", 8), "", ""},
		{"a mark that nothing carries", "\u0301Alice \u0301", "Alice", "", ""},
		{"a joiner that nothing carries", "\u200dAlice", "Alice", "", ""},
		{"more marks than text has", "A" + strings.Repeat("\u0301", 20) + "b", "A" + strings.Repeat("\u0301", 8) + "b", "", ""},
		{"longer than the limit before it is cleaned", strings.Repeat(" ", 300) + "Alice", "Alice", "", ""},

		{"a line break", "Alic\ne", "", "control", "contains a line break (U+000A) at character 5: remove it"},
		{"characters of several bytes", " 李明\u200b\u2028x", "", "control", "contains a line break (U+2028) at character 3: remove it"},
		{"a tab", "A\tlice", "", "control", "contains a tab (U+0009) at character 2: remove it"},
		{"a bell", "Alice\a", "", "control", "contains a control character (U+0007) at character 6: remove it"},
		{"a C1 control", "\u009bAlice", "", "control", "contains a control character (U+009B) at character 1: remove it"},
		{"DEL", "\x7f", "", "control", "contains a control character (U+007F) at character 1: remove it"},
		{"NUL", "a\x00", "", "control", "contains a control character (U+0000) at character 2: remove it"},
		{"a noncharacter", "a\ufffe", "", "control", "contains a code point that is not a character (U+FFFE) at character 2: remove it"},

		{"nothing", "", "", "invisible", "contains no visible character: use at least one letter, digit or symbol"},
		{"blanks", " \t\n\u3000", "", "invisible", ""},
		{"no width", "\u200b\u200c\u200d\ufeff", "", "invisible", ""},
		{"soft hyphens", "\u00ad\u00ad", "", "invisible", ""},
		{"fillers", "\u115f\u1160", "", "invisible", ""},
		{"fillers and blanks", "\u3164\u2800\uffa0", "", "invisible", ""},
		{"variation selectors", "\ufe0f\U000e0100", "", "invisible", ""},
		{"marks", "\u0301\u0302\u20dd", "", "invisible", ""},
		{"marks on a filler", "\u1160\u0301", "", "invisible", ""},
		{"tags", "\U000e0041", "", "invisible", ""},
		{"format characters of hieroglyphs", "\U00013430", "", "invisible", ""},
		{"a null notehead", "\U0001d159", "", "invisible", ""},

		{"invalid UTF-8", "Al\xffice", "", "utf8", "is not valid UTF-8 at byte 3: encode it as UTF-8"},
		{"half a character", "李\xe6\x98", "", "utf8", "is not valid UTF-8 at byte 4: encode it as UTF-8"},
		{"256 bytes", strings.Repeat("é", 128), strings.Repeat("é", 128), "", ""},
		{"257 bytes", strings.Repeat("é", 128) + "x", "", "maxBytes", "is 257 bytes long: shorten it to at most 256"},
	} {
		got, fault := room.CleanName(c.text, 256)
		switch {
		case c.rule == "" && (fault != nil || got != c.want):
			t.Errorf("%s: %+q becomes %+q, want %+q: %v", c.what, c.text, got, c.want, fault)
		case c.rule != "" && (fault == nil || fault.Rule != c.rule || got != ""):
			t.Errorf("%s: %+q becomes %+q, want the fault %s: %v", c.what, c.text, got, c.rule, fault)
		case c.message != "" && fault.Message != c.message:
			t.Errorf("%s: the message is %q, want %q", c.what, fault.Message, c.message)
		}
	}
}

// ignorable are the Default_Ignorable_Code_Points of Unicode 15.0, as DerivedCoreProperties.txt
// lists them.
var ignorable = [][2]rune{
	{0x00ad, 0x00ad},
	{0x034f, 0x034f},
	{0x061c, 0x061c},
	{0x115f, 0x1160},
	{0x17b4, 0x17b5},
	{0x180b, 0x180f},
	{0x200b, 0x200f},
	{0x202a, 0x202e},
	{0x2060, 0x206f},
	{0x3164, 0x3164},
	{0xfe00, 0xfe0f},
	{0xfeff, 0xfeff},
	{0xffa0, 0xffa0},
	{0xfff0, 0xfff8},
	{0x1bca0, 0x1bca3},
	{0x1d173, 0x1d17a},
	{0xe0000, 0xe0fff},
}

func isIgnorable(c rune) bool {
	return slices.ContainsFunc(ignorable, func(span [2]rune) bool { return span[0] <= c && c <= span[1] })
}

// TestEveryCharacter checks each code point alone and between letters. All of them are looked at,
// so that a newer version of package unicode cannot let one through.
func TestEveryCharacter(t *testing.T) {
	t.Parallel()
	shapes := &unicode.RangeTable{R16: []unicode.Range16{
		{Lo: 0x034f, Hi: 0x034f, Stride: 1},
		{Lo: 0x115f, Hi: 0x1160, Stride: 1},
		{Lo: 0x17b4, Hi: 0x17b5, Stride: 1},
		{Lo: 0x180b, Hi: 0x180f, Stride: 1},
		{Lo: 0x200c, Hi: 0x200d, Stride: 1},
		{Lo: 0x3164, Hi: 0x3164, Stride: 1},
		{Lo: 0xfe00, Hi: 0xfe0f, Stride: 1},
		{Lo: 0xffa0, Hi: 0xffa0, Stride: 1},
	}, R32: []unicode.Range32{{Lo: 0xe0100, Hi: 0xe01ef, Stride: 1}}}
	for c := rune(0); c <= unicode.MaxRune; c++ {
		if !utf8.ValidRune(c) {
			continue
		}
		alone, fault := room.CleanName(string(c), 256)
		if seen := fault == nil; seen && (isIgnorable(c) || unicode.In(c, unicode.M, unicode.Z, unicode.Cc, unicode.Noncharacter_Code_Point)) {
			t.Errorf("%U alone is the name %q", c, alone)
		} else if !seen && unicode.In(c, unicode.L, unicode.N, unicode.P, unicode.S, unicode.Co) && !isIgnorable(c) && !drawnAsNothing(c) {
			t.Errorf("%U alone is not a name: %v", c, fault)
		}
		between, fault := room.CleanName("a"+string(c)+"b", 256)
		controls := unicode.In(c, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Noncharacter_Code_Point)
		switch {
		case controls != (fault != nil):
			t.Errorf("a%Ub: %v", c, fault)
		case unicode.Is(unicode.Bidi_Control, c) && between != "ab":
			t.Errorf("a%Ub: the name %+q has a bidirectional control", c, between)
		case isIgnorable(c) && (between == "ab") == unicode.Is(shapes, c):
			t.Errorf("a%Ub: the name is %+q", c, between)
		}
		if !controls && c != '/' && c != '\\' {
			continue
		}
		if file, fault := room.CleanFileName("a" + string(c) + "b"); fault != nil || strings.ContainsFunc(file, unicode.IsControl) || strings.ContainsAny(file, `/\`) {
			t.Errorf("a%Ub: the file is called %+q: %v", c, file, fault)
		}
	}
}

func drawnAsNothing(c rune) bool {
	return c == '\u2800' || c == '\U0001d159' || c == '\U00013441' || c == '\U00013442'
}

func TestCleanFileName(t *testing.T) {
	t.Parallel()
	flag, family := "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "👩‍👩‍👧‍👦"
	for _, c := range []struct{ what, text, want string }{
		{"a path of a browser on Windows", `C:\fakepath\cat.png`, "cat.png"},
		{"a path", "/home/alice/a cat.png", "a cat.png"},
		{"a path in a folder", "pictures/cat.png", "cat.png"},
		{"both separators", `a/b\c.png`, "c.png"},
		{"a folder", "pictures/", "pictures"},
		{"a tab and a line break", "a\tcat\r\nand a dog.png", "a cat  and a dog.png"},
		{"other controls", "c\aa\x7ft\u009b.png\x00", "cat.png"},
		{"an override that hides the ending", "cat\u202egnp.exe", "catgnp.exe"},
		{"blanks at the ends", " cat.png\n", "cat.png"},
		{"an invisible name with an ending", "\u200b.png", ".png"},
		{"nothing", "", ""},
		{"blanks", "\u3164 \t", ""},
		{"the folder itself", ".", ""},
		{"the folder above", "a/..", ""},
		{"the root", `/\/`, ""},
		{"a hidden dot", "\u200b..", ""},
		{"many dots", "...", "..."},
		{"other systems' special characters", `a "b" <c>: d|e?*;%22.png`, `a "b" <c>: d|e?*;%22.png`},

		{"255 bytes", strings.Repeat("x", 251) + ".png", strings.Repeat("x", 251) + ".png"},
		{"256 bytes", strings.Repeat("x", 252) + ".png", strings.Repeat("x", 251) + ".png"},
		{"Chinese", strings.Repeat("猫", 90) + ".png", strings.Repeat("猫", 83) + ".png"},
		{"no ending", strings.Repeat("猫", 90), strings.Repeat("猫", 85)},
		{"a dot far from the end", "a." + strings.Repeat("x", 300), "a." + strings.Repeat("x", 253)},
		{"a first dot", "." + strings.Repeat("x", 300), "." + strings.Repeat("x", 254)},
		{"a blank at the cut", strings.Repeat("x", 250) + "  long.png", strings.Repeat("x", 250) + ".png"},
		{"a letter with an accent", strings.Repeat("x", 250) + "e\u0301e\u0301.png", strings.Repeat("x", 250) + ".png"},
		{"joined emoji", strings.Repeat("x", 244) + family + ".png", strings.Repeat("x", 244) + ".png"},
		{"a skin tone", strings.Repeat("x", 246) + "👍🏽👍🏽.png", strings.Repeat("x", 246) + ".png"},
		{"flags of countries", "xxx" + strings.Repeat("🇩🇪", 40), "xxx" + strings.Repeat("🇩🇪", 31)},
		{"flags of regions", strings.Repeat(flag, 10), strings.Repeat(flag, 9)},
		{"decomposed Korean", strings.Repeat("\u1112\u1161\u11ab", 30), strings.Repeat("\u1112\u1161\u11ab", 28)},
		{"endless joins", strings.Repeat("👩\u200d", 50), strings.Repeat("👩\u200d", 36)},
		{"dots around blanks", "." + strings.Repeat(" ", 300) + ".", ""},
	} {
		if got, fault := room.CleanFileName(c.text); fault != nil || got != c.want {
			t.Errorf("%s: %+q becomes\n%+q (%d bytes), want\n%+q (%d bytes): %v", c.what, c.text, got, len(got), c.want, len(c.want), fault)
		}
	}
	if _, fault := room.CleanFileName("c\xe4t.png"); fault == nil || fault.Rule != "utf8" {
		t.Errorf("a name in Latin-1: %v", fault)
	}
}

// FuzzNames checks that a cleaned name has the properties that readers rely on, that cleaning it
// again changes nothing, and that cleaning adds nothing.
func FuzzNames(f *testing.F) {
	for _, seed := range append(names, "", ".. ", "\u202eecilA", "a\tb", `C:\fakepath\cat.png`, " \u200b. .", strings.Repeat("👩\u200d", 50)+".png") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, clean := range []func(string) (string, *room.NameFault){
			func(text string) (string, *room.NameFault) { return room.CleanName(text, room.MaxFileNameBytes) },
			room.CleanFileName,
		} {
			name, fault := clean(text)
			if fault != nil {
				if fault.Rule == "" || fault.Message == "" || name != "" {
					t.Errorf("%+q becomes %+q: %v", text, name, fault)
				}
				continue
			}
			if name == "" { // nothing of the name of a file is left
				continue
			}
			again, fault := clean(name)
			switch {
			case fault != nil || again != name:
				t.Errorf("%+q becomes %+q, and then %+q: %v", text, name, again, fault)
			case len(name) > len(text) || len(name) > room.MaxFileNameBytes || !utf8.ValidString(name):
				t.Errorf("%+q becomes %+q of %d bytes", text, name, len(name))
			case strings.TrimSpace(name) != name:
				t.Errorf("%+q becomes %+q, which has blanks at its ends", text, name)
			case strings.ContainsFunc(name, func(c rune) bool { return unicode.In(c, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control) }):
				t.Errorf("%+q becomes %+q, which has control characters", text, name)
			case !strings.ContainsFunc(name, func(c rune) bool { return !unicode.In(c, unicode.M, unicode.Z) && !isIgnorable(c) }):
				t.Errorf("%+q becomes %+q, which cannot be seen", text, name)
			}
		}
	})
}
