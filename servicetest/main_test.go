package servicetest

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"go.uber.org/goleak"

	"parlor/store/storetest"
)

func TestMain(m *testing.M) {
	// A stream does not end, so its body cannot be decoded. Its header is checked when it opens,
	// and its events are checked as they arrive.
	openapi3filter.RegisterBodyDecoder("text/event-stream",
		func(io.Reader, http.Header, *openapi3.SchemaRef, openapi3filter.EncodingFn) (any, error) {
			return "", nil
		})

	for _, contentType := range []string{
		"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/tiff", "audio/mpeg", "audio/mp4", "video/mp4", "video/quicktime",
		"image/svg+xml", "text/html", "multipart/byteranges", "application/offset+octet-stream",
	} {
		openapi3filter.RegisterBodyDecoder(contentType, openapi3filter.FileBodyDecoder)
	}

	code := storetest.Main(m)
	if code == 0 && wholePackageRan() {
		for _, gap := range seen.gaps() {
			fmt.Fprintln(os.Stderr, "no test has seen", gap)
			code = 1
		}
	}
	// tusd keeps a goroutine for storeTimeout after each request.
	if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/tus/tusd/v2/pkg/handler.newDelayedContext.func1")); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// wholePackageRan reports whether the run included all tests, so that it must have seen everything
// that the contract declares.
func wholePackageRan() bool {
	for _, filter := range []string{"test.run", "test.skip", "test.list", "test.fuzz", "test.bench"} {
		if flag.Lookup(filter).Value.String() != "" {
			return false
		}
	}
	return true
}
