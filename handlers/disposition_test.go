package handlers

import (
	"mime"
	"testing"
)

func TestContentDisposition(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, want string }{
		{"cat.png", `inline; filename="cat.png"`},
		{"a cat; of mine.png", `inline; filename="a cat; of mine.png"`},
		{"猫.png", `inline; filename="_.png"; filename*=UTF-8''%E7%8C%AB.png`},
		{`say "hi".txt`, `inline; filename="say _hi_.txt"; filename*=UTF-8''say%20%22hi%22.txt`},
		{"100%22.txt", `inline; filename="100_22.txt"; filename*=UTF-8''100%2522.txt`},
		{"a'b*c(d).txt é", `inline; filename="a'b*c(d).txt _"; filename*=UTF-8''a%27b%2Ac%28d%29.txt%20%C3%A9`},
		{"old\tname\\\r\n.txt", `inline; filename="old_name___.txt"; filename*=UTF-8''old%09name%5C%0D%0A.txt`},
		{"👩\u200d👧.png", `inline; filename="___.png"; filename*=UTF-8''%F0%9F%91%A9%E2%80%8D%F0%9F%91%A7.png`},
	} {
		got := contentDisposition("inline", c.name)
		if got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	for _, name := range []string{"cat.png", `"; filename="evil.exe`, "猫 %41.png", "a;b,c=d'e.txt"} {
		_, params, err := mime.ParseMediaType(contentDisposition("attachment", name))
		if err != nil || len(params) != 1 || params["filename"] != name {
			t.Errorf("%q is read as %v: %v", name, params, err)
		}
	}
}
