package media_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"parlor/media"
)

// unknownFiles do not begin as any known type, whatever follows.
func unknownFiles(t testing.TB) map[string][]byte {
	gif := fixtureFiles(t)["still.gif"]
	mp4 := fixtureFiles(t)["moov_first.mp4"]
	return map[string][]byte{
		"empty":                nil,
		"one byte":             {0xff},
		"text":                 []byte("Hello."),
		"text of cars":         []byte("BMW is a car, and this text is long enough to be a header of a bitmap."),
		"text of tags":         []byte("ID3 tags are put in front of sound, where old players do not look."),
		"HTML":                 []byte("<!DOCTYPE html><script>alert(1)</script>"),
		"HTML and GIF":         append([]byte("<!--"), gif...),
		"HTML and MP4":         append([]byte("<html>"), mp4...),
		"SVG":                  []byte(`<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>`),
		"XML and SVG":          []byte(`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>`),
		"PDF":                  []byte("%PDF-1.7\n%\xff\xd8\xff\n"),
		"ZIP":                  append([]byte("PK\x03\x04"), gif...),
		"space and GIF":        append([]byte(" "), gif...),
		"HEIC":                 box("ftyp", text("heic"), u32(0), text("mif1heic")),
		"AVIF":                 box("ftyp", text("avif"), u32(0), text("avifmif1miaf")),
		"MP4 of a brand":       box("ftyp", text("isom")),
		"MP4 without a movie":  mp4File(box("mdat", text("x"))),
		"WAV":                  []byte("RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00"),
		"AAC in ADTS":          bytes.Repeat([]byte("\xff\xf1\x50\x80\x01\x1f\xfc\x00"), 20),
		"one frame of MP3":     mp3Frame(),
		"frames at odd places": append(mp3Frame(), append([]byte{0}, mp3Frame()...)...),
		"BigTIFF":              []byte("II+\x00\x08\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00"),
	}
}

// brokenFiles begin as a known type and must be rejected.
func brokenFiles(t testing.TB) map[string][]byte {
	files := fixtureFiles(t)
	return map[string][]byte{
		"PNG of 100,000 x 100,000":   png(100_000, 100_000, pngChunk("IDAT", []byte{0}), pngChunk("IEND")),
		"PNG of 65,535 x 65,535":     png(65_535, 65_535, pngChunk("IDAT", []byte{0}), pngChunk("IEND")),
		"PNG of no height":           png(5, 0, pngChunk("IDAT", []byte{0}), pngChunk("IEND")),
		"PNG without data":           png(5, 5, pngChunk("IEND")),
		"PNG with empty data":        png(5, 5, pngChunk("IDAT"), pngChunk("IEND")),
		"PNG with a huge chunk":      png(5, 5, []byte("\xff\xff\xff\xffIDAT")),
		"PNG with huge text":         png(5, 5, []byte("\x7f\xff\xff\xfftEXt")),
		"PNG with a wrong checksum":  bytes.Replace(files["rgb8.png"], []byte("IHDR\x00\x00"), []byte("IHDR\x00\x01"), 1),
		"JPEG of nothing":            []byte("\xff\xd8\xff\xd9"),
		"JPEG with a short segment":  []byte("\xff\xd8\xff\xe0\x00\x01\xff\xd9"),
		"JPEG of 65,535 x 65,535":    jpegOf(files["baseline.jpg"], 65_535, 65_535),
		"JPEG of empty blocks":       jpegOfEmptyBlocks(),
		"JPEG of no width":           jpegOf(files["baseline.jpg"], 0, 43),
		"JPEG of an unfinished scan": jpegOf(files["baseline.jpg"][:len(files["baseline.jpg"])-2], 670, 430),
		"JPEG with a second frame":   jpegWithSecondFrame(files),
		"JPEG of one component":      files["separate.jpg"][:bytes.LastIndex(files["separate.jpg"], []byte("\xff\xda"))],
		"JPEG and ZIP":               []byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00PK\x03\x04 not even a frame"),
		"GIF and script":             []byte("GIF89a=1;/*" + "<script>alert(1)</script>*/ alert(2) // and so on, for a while"),
		"GIF and HTML":               []byte("GIF89a<html><body onload=alert(1)>" + "and so on, for a while"),
		"GIF without a picture":      []byte("GIF89a\x05\x00\x05\x00\x00\x00\x00;"),
		"GIF of an empty frame":      []byte("GIF89a\x05\x00\x05\x00\x00\x00\x00,\x00\x00\x00\x00\x00\x00\x05\x00\x00\x02\x01\x05\x00;"),
		"GIF of an unfinished frame": withUint32(files["still.gif"][:len(files["still.gif"])-2], bytes.Index(files["still.gif"], []byte(",\x00\x00"))+5, 500<<16|500),
		"GIF of comments":            append([]byte("GIF89a\x05\x00\x05\x00\x00\x00\x00"), bytes.Repeat([]byte("!\xfe\x01a\x00"), 1000)...),
		"WebP longer than its file":  withUint32(files["lossy.webp"], 4, math.MaxUint32),
		"WebP with a long chunk":     withUint32(files["lossy.webp"], 16, math.MaxUint32),
		"WebP with a longer chunk":   withUint32(files["lossless.webp"], 16, uint32(len(files["lossless.webp"]))),
		"WebP of a canvas alone":     webpCanvas(5, 5),
		"WebP of 2^24 x 2^24":        webpCanvas(1<<24, 1<<24),
		"BMP of 2^31 rows":           withUint32(files["bottomup.bmp"], 22, 1<<31),
		"BMP of 65,535 x 43":         withUint32(files["bottomup.bmp"], 18, 65_535),
		"BMP with pixels outside":    withUint32(files["bottomup.bmp"], 10, 1<<30),
		"BMP with pixels in front":   withUint32(files["bottomup.bmp"], 10, 2),
		"BMP of JPEG":                withUint32(files["bottomup.bmp"], 30, 4),
		"TIFF that points to itself": append([]byte("II*\x00\x00\x00\x00\x00"), make([]byte, 64)...),
		"TIFF that points outside":   []byte("MM\x00*\xff\xff\xff\xff"),
		"TIFF of 1,027 tags":         tiff(tag(256, 5), tag(257, 5), bytes.Repeat(tag(258, 8), 1023), tag(273, 1), tag(279, 1)),
		"TIFF of 65,535 tags":        append([]byte("II*\x00\x08\x00\x00\x00\xff\xff"), make([]byte, 12*65_535)...),
		"TIFF without strips":        tiff(tag(256, 5), tag(257, 5)),
		"TIFF with strips outside":   tiff(tag(256, 5), tag(257, 5), tag(273, 10), tag(279, 1<<30)),
		"TIFF with a list outside":   tiff(tag(256, 5), tag(257, 5), tags(273, math.MaxUint32, 8), tags(279, math.MaxUint32, 8)),
		"TIFF with a ring of pages":  tiff(tag(256, 5), tag(257, 5), tag(330, 8), tag(34665, 8)),
		"ID3 of 256 MB":              append([]byte("ID3\x04\x00\x00\x7f\x7f\x7f\x7f"), make([]byte, 100)...),
		"ID3 of the wrong length":    withByte(files["cover.mp3"], 9, files["cover.mp3"][9]+1),
		"ID3 on ID3":                 bytes.Repeat([]byte("ID3\x04\x00\x00\x00\x00\x00\x00"), 1000),
		"ID3 and HTML":               []byte("ID3\x04\x00\x00\x00\x00\x00\x00<html><script>alert(1)</script>"),
		"MP3 in a ZIP's clothes":     slices.Concat(mp3Frame(), mp3Frame(), mp3Frame(), bytes.Repeat([]byte("PK\x03\x04"), 5000)),

		"MP4 without data":            mp4File(box("moov", mvhd(1000, 1000), soundTrack())),
		"MP4 without tracks":          mp4File(box("moov", mvhd(1000, 1000)), box("mdat", text("x"))),
		"MP4 with two movies":         mp4File(box("moov", soundTrack()), box("moov", soundTrack()), box("mdat", text("x"))),
		"MP4 box that leaves":         mp4File([]byte("\x00\x00\x10\x00moov"), soundTrack()),
		"MP4 box smaller than itself": mp4File([]byte("\x00\x00\x00\x04moov"), soundTrack()),
		"MP4 box to the end":          mp4File([]byte("\x00\x00\x00\x00moov"), []byte("\x00\x00\x00\x00trak")),
		"MP4 box of 2^63":             mp4File([]byte("\x00\x00\x00\x01moov\x7f\xff\xff\xff\xff\xff\xff\xff"), soundTrack()),
		"MP4 box that points back":    mp4File([]byte("\x00\x00\x00\x01moov\xff\xff\xff\xff\xff\xff\xff\xec"), soundTrack()),
		"MP4 box of large size 0":     mp4File([]byte("\x00\x00\x00\x01moov\x00\x00\x00\x00\x00\x00\x00\x00"), soundTrack()),
		"MP4 of nested boxes":         mp4File(box("moov", soundTrack(stts(10, 10), nested("stbl", 1000))), box("mdat", text("x"))),
		"MP4 of many tracks":          mp4File(box("moov", bytes.Repeat(soundTrack(stts(10, 10)), 33)), box("mdat", text("x"))),
		"MP4 of many boxes":           append(mp4Sound(1000, stts(10, 10)), bytes.Repeat(box("free"), 1<<16)...),
		"MP4 of 2^32 runs":            mp4Sound(1000, box("stts", u32(0), u32(math.MaxUint32), u32(1), u32(1))),
		"MP4 that wraps around": mp4Sound(1, box("stts", u32(0), u32(5), u32(math.MaxUint32), u32(math.MaxUint32),
			u32(1), u32(math.MaxUint32), u32(1), u32(math.MaxUint32), u32(1), u32(1), u32(1), u32(1000))),
		"MP4 of 2^64 seconds": mp4Sound(1, box("stts", u32(0), u32(3), u32(math.MaxUint32), u32(math.MaxUint32),
			u32(math.MaxUint32), u32(math.MaxUint32), u32(math.MaxUint32), u32(math.MaxUint32))),
		"MP4 without a clock":       mp4Sound(0, stts(10, 10)),
		"MP4 of no samples":         mp4Sound(1000, stts(0, 10)),
		"MP4 of a short table":      mp4Sound(1000, box("stts", u32(0))),
		"MP4 of a huge edit":        mp4Sound(1000, stts(1, 1), box("edts", box("elst", u32(1<<24), u32(1), u32(math.MaxUint32), u32(0), u32(0), u32(0), u32(0)))),
		"MP4 of 65,535 x 65,535":    mp4Video(65_535, 65_535, "mp4v"),
		"MP4 of no width":           mp4Video(0, 10, "mp4v"),
		"MP4 of 2^20 macroblocks":   mp4Video(10, 10, "avc1", avcC(1<<20, 1)),
		"MP4 of negative width":     mp4Video(10, 10, "avc1", avcC(1, 1, 9, 9, 9, 9)),
		"MP4 of a set outside":      mp4Video(10, 10, "avc1", box("avcC", []byte("\x01\x42\x00\x1e\xff\xe1\xff\xff\x67"))),
		"MP4 of a long set":         mp4Video(10, 10, "avc1", box("avcC", []byte("\x01\x42\x00\x1e\xff\xe1\x20\x00\x67"), make([]byte, 1<<13))),
		"MP4 of 255 x 65,535 units": mp4Video(10, 10, "hvc1", box("hvcC", make([]byte, 22), []byte{255}, bytes.Repeat([]byte("\x20\xff\xff"), 100))),
		"MP4 of an empty entry":     mp4Video(10, 10, ""),
		"MP4 of a huge run": mp4File(
			box("moov", mvhd(1000, 0), soundTrack(), box("mvex", box("trex", u32(0), u32(1), u32(1), u32(math.MaxUint32)))),
			box("moof", box("traf", box("tfhd", u32(0), u32(1)), box("trun", u32(0), u32(math.MaxUint32)))), box("mdat", text("x"))),
		"MP4 of a run without a table": mp4File(
			box("moov", mvhd(1000, 0), soundTrack()),
			box("moof", box("traf", box("tfhd", u32(0), u32(1)), box("trun", u32(0x100), u32(math.MaxUint32)))), box("mdat", text("x"))),
		"MP4 of a run without a header": mp4File(
			box("moov", mvhd(1000, 0), soundTrack()), box("moof", box("traf", box("trun", u32(0), u32(1)))), box("mdat", text("x"))),
	}
}

func TestProbeRejects(t *testing.T) {
	t.Parallel()

	for name, data := range unknownFiles(t) {
		if info, err := probe(t, data); err != nil || info != (media.Info{ContentType: media.Unknown}) {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	for name, data := range brokenFiles(t) {
		info, err := probe(t, data)
		if err == nil {
			t.Errorf("%s is accepted: %+v", name, info)
			continue
		}
		checkRefusal(t, info, err)
	}
}

// TestProbeIgnoresFalseClaims covers files whose claims are ignored, but which are not rejected.
func TestProbeIgnoresFalseClaims(t *testing.T) {
	t.Parallel()

	frames := bytes.Repeat(mp3Frame(), 100)
	const frame = 1152 * time.Second / 44_100
	for name, test := range map[string]struct {
		data []byte
		want time.Duration
	}{
		"Xing that claims one frame":  {slices.Concat(xing(1), frames), 100 * frame},
		"VBRI that claims one frame":  {slices.Concat(vbri(1), frames), 100 * frame},
		"sound behind a byte of junk": {slices.Concat(frames, []byte{0}, frames), 200 * frame},
		"sound of another rate":       {slices.Concat(frames, bytes.Repeat(slowFrame(), 100)), 100*frame + 100*72*time.Millisecond},
		"sound behind a closing tag":  {slices.Concat(frames, []byte("TAG"), make([]byte, 125), frames), 200 * frame},
		"zeros behind a tag":          {slices.Concat([]byte("ID3\x03\x00\x00\x00\x00\x00\x00"), make([]byte, 100), frames), 100 * frame},
		"a tag with a footer":         {slices.Concat([]byte("ID3\x04\x00\x10\x00\x00\x00\x00"), []byte("3DI\x04\x00\x10\x00\x00\x00\x00"), frames), 100 * frame},
		"a cut frame at the end":      {frames[:len(frames)-1], 99 * frame},
		"header that claims 1 ms":     {mp4File(box("moov", mvhd(1000, 1), soundTrack(box("mdia", mdhd(1000), stts(100, 50)))), box("mdat", text("x"))), 5 * time.Second},
		"header that claims a year":   {mp4File(box("moov", mvhd(1, 31_536_000), soundTrack(box("mdia", mdhd(1000), stts(100, 50)))), box("mdat", text("x"))), 5 * time.Second},
		"header alone knows":          {mp4File(box("moov", mvhd(1000, 700), soundTrack(box("mdia", mdhd(1000), stts(100, 0)))), box("mdat", text("x"))), 700 * time.Millisecond},
		"no parameter set":            {mp4Video(10, 10, "avc1", box("avcC", []byte("\x01\x42\x00\x1e\xff\xe0\x00"))), time.Second},
		"an unreadable parameter set": {mp4Video(10, 10, "avc1", box("avcC", []byte("\x01\x42\x00\x1e\xff\xe1\x00\x01\x67\x00"))), time.Second},
		"a parameter set":             {mp4Video(10, 10, "avc1", avcC(2, 2, 1, 2, 3, 4)), time.Second},
	} {
		info, err := probe(t, test.data)
		if err != nil || (info.Duration-test.want).Abs() > time.Millisecond {
			t.Errorf("%s: %v, %v, want %v", name, info.Duration, err, test.want)
		}
	}
}

// TestProbeEstimates checks that audio beyond maxWalk is included in the duration.
func TestProbeEstimates(t *testing.T) {
	t.Parallel()

	const frames = 250_000
	frame := mp3Frame()
	info, err := media.Probe(t.Context(), repeated{frame, frame}, int64(frames*len(frame)))
	want := frames * 1152 * time.Second / 44_100
	if err != nil || (info.Duration-want).Abs() > want/1000 {
		t.Errorf("%v, %v, want %v", info.Duration, err, want)
	}
}

// longFiles returns files as long as an upload can be, made to be read for as long as possible. The
// second part of each is repeated.
func longFiles(t testing.TB) map[string]repeated {
	files := fixtureFiles(t)
	sample := u32(1)
	return map[string]repeated{
		"MP3":                 {mp3Frame(), mp3Frame()},
		"MP3 of fake frames":  {slices.Concat(mp3Frame(), mp3Frame(), mp3Frame()), []byte("\xff\xfb\x90\x00")},
		"MP3 of zeros":        {[]byte("ID3\x04\x00\x00\x00\x00\x00\x00"), make([]byte, 1000)},
		"MP3 of tags":         {[]byte("ID3\x04\x00\x00\x00\x00\x00\x00"), []byte("ID3\x04\x00\x00\x00\x00\x00\x00")},
		"PNG of text":         {png(5, 5), pngChunk("tEXt")},
		"PNG of data":         {png(5, 5), pngChunk("IDAT", []byte("x"))},
		"JPEG of fill bytes":  {[]byte("\xff\xd8\xff"), []byte("\xff")},
		"JPEG of comments":    {[]byte("\xff\xd8"), []byte("\xff\xfe\x00\x02")},
		"JPEG of EXIF":        {[]byte("\xff\xd8"), jpegEXIF()},
		"JPEG of a scan":      {files["baseline.jpg"][:len(files["baseline.jpg"])-2], []byte("\xff\x00")},
		"JPEG of fine scans":  {files["progressive.jpg"][:len(files["progressive.jpg"])-2], []byte("\xff\x00")},
		"GIF of comments":     {[]byte("GIF89a\x05\x00\x05\x00\x00\x00\x00"), []byte("!\xfe\x01a\x00")},
		"GIF of a comment":    {[]byte("GIF89a\x05\x00\x05\x00\x00\x00\x00!\xfe"), []byte("\x01a")},
		"WebP of chunks":      {withUint32(webpCanvas(5, 5), 4, 100<<20-8), []byte("XXXX\x00\x00\x00\x00")},
		"TIFF of strips":      {tiff(tag(256, 65_535), tag(257, 1000), tags(273, 1<<18, 1<<10), tags(279, 1<<18, 1<<24)), []byte("\x00")},
		"TIFF of more strips": {tiff(tag(256, 65_535), tag(257, 1000), tags(273, 1<<24, 1<<10), tags(279, 1<<24, 1<<24)), []byte("\x00")},
		"MP4 of boxes":        {mp4File(), box("free")},
		"MP4 of sparse boxes": {mp4File(), box("free", make([]byte, 1<<12))},
		"MP4 of fragments":    {mp4File(box("moov", soundTrack())), box("moof", box("traf", box("tfhd", u32(0), u32(1)), box("trun", u32(0x100), u32(1), sample)))},
		"MP4 of a table": {
			slices.Concat(mp4File(), u32(100<<20-20), text("moov"), u32(100<<20-28), text("trak"), u32(100<<20-36), text("stts"), u32(0), u32(12<<20)),
			sample,
		},
	}
}

// TestProbeCosts checks the bounds on what is read and allocated, for any claims and any length of
// a file. It is not parallel, because it measures the allocations of the whole process.
func TestProbeCosts(t *testing.T) {
	const (
		size      = 100 << 20 // of the long files
		mostRead  = 12 << 20
		mostCalls = mostRead >> 10
		mostMade  = 1 << 20
	)
	measure := func(name string, reader *countingReader) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = media.Probe(t.Context(), reader, reader.size) //nolint:errcheck // what it costs counts, whatever it finds
		runtime.ReadMemStats(&after)

		if made := after.TotalAlloc - before.TotalAlloc; made > mostMade {
			t.Errorf("%s: %d bytes allocated", name, made)
		}
		if reader.bytes > mostRead || reader.calls > mostCalls {
			t.Errorf("%s: %d bytes in %d reads", name, reader.bytes, reader.calls)
		}
	}

	files := fixtureFiles(t)
	maps.Copy(files, brokenFiles(t))
	for name, data := range files {
		measure(name, &countingReader{ReaderAt: bytes.NewReader(data), t: t, size: int64(len(data))})
	}
	for name, file := range longFiles(t) {
		measure(name, &countingReader{ReaderAt: file, t: t, size: size})
	}
}

// repeated is a file that begins with head and then repeats tail forever.
type repeated struct{ head, tail []byte }

func (r repeated) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(r.head)) {
		n = copy(p, r.head[off:])
	}
	for n < len(p) {
		n += copy(p[n:], r.tail[(off+int64(n)-int64(len(r.head)))%int64(len(r.tail)):])
	}
	return n, nil
}

type countingReader struct {
	io.ReaderAt
	t            *testing.T
	size         int64
	bytes, calls int
}

func (r *countingReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > r.size {
		r.t.Errorf("%d bytes at %d are outside the file", len(p), off)
	}
	r.calls++
	r.bytes += len(p)
	return r.ReaderAt.ReadAt(p, off)
}

// The functions below build files that no encoder would write.

func text(s string) []byte { return []byte(s) }

func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func withUint32(data []byte, at int, v uint32) []byte { // little endian
	data = slices.Clone(data)
	binary.LittleEndian.PutUint32(data[at:], v)
	return data
}

func withByte(data []byte, at int, v byte) []byte {
	data = slices.Clone(data)
	data[at] = v
	return data
}

func png(width, height uint32, chunks ...[]byte) []byte {
	header := pngChunk("IHDR", u32(width), u32(height), []byte{8, 2, 0, 0, 0})
	return slices.Concat([]byte("\x89PNG\r\n\x1a\n"), header, slices.Concat(chunks...))
}

func pngChunk(kind string, data ...[]byte) []byte {
	body := slices.Concat(text(kind), slices.Concat(data...))
	return slices.Concat(u32(uint32(len(body)-4)), body, u32(crc32.ChecksumIEEE(body)))
}

// jpegOf replaces the dimensions in the frame header.
func jpegOf(data []byte, width, height uint16) []byte {
	data = slices.Clone(data)
	at := bytes.Index(data, []byte("\xff\xc0\x00\x11\x08"))
	binary.BigEndian.PutUint16(data[at+5:], height)
	binary.BigEndian.PutUint16(data[at+7:], width)
	return data
}

// jpegOfEmptyBlocks returns a progressive JPEG with an unfinished picture of the largest dimensions
// that has no coefficients, so that a symbol of 15 bits stands for 16,384 blocks.
func jpegOfEmptyBlocks() []byte {
	scan := func(from, to, bits byte) []byte {
		return slices.Concat([]byte("\xff\xda\x00\x08\x01\x01\x00"), []byte{from, to, bits}, make([]byte, 8000))
	}
	return slices.Concat(
		[]byte("\xff\xd8\xff\xc2\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00"),
		[]byte("\xff\xc4\x00\x14\x00\x01"), make([]byte, 15), []byte("\x00"), // differences of 0 bits
		[]byte("\xff\xc4\x00\x14\x10\x01"), make([]byte, 15), []byte("\xe0"), // 2^14 empty blocks
		scan(0, 0, 0), bytes.Repeat(scan(1, 63, 1), 15), scan(1, 63, 0x10),
	)
}

// jpegWithSecondFrame returns an unfinished progressive JPEG, followed by a complete smaller frame.
func jpegWithSecondFrame(files map[string][]byte) []byte {
	progressive, baseline := files["progressive.jpg"], files["baseline.jpg"]
	return slices.Concat(progressive[:len(progressive)-100], baseline[2:len(baseline)-2])
}

// jpegEXIF returns a segment whose directory has a thousand tags, none of which is an orientation.
func jpegEXIF() []byte {
	body := slices.Concat([]byte("Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x04"), make([]byte, 12*1024))
	return slices.Concat([]byte("\xff\xe1"), binary.BigEndian.AppendUint16(nil, uint16(len(body)+2)), body)
}

func webpCanvas(width, height uint32) []byte {
	field := func(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v-1)[:3] }
	body := slices.Concat([]byte("WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00"), field(width), field(height))
	return slices.Concat([]byte("RIFF"), binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body)
}

func tiff(tags ...[]byte) []byte {
	return slices.Concat([]byte("II*\x00\x08\x00\x00\x00"), binary.LittleEndian.AppendUint16(nil, uint16(len(slices.Concat(tags...))/12)), slices.Concat(tags...), make([]byte, 16))
}

func tag(number uint16, value uint32) []byte { return tags(number, 1, value) }

func tags(number uint16, count, value uint32) []byte {
	b := binary.LittleEndian.AppendUint16(nil, number)
	b = binary.LittleEndian.AppendUint16(b, 4) // LONG
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, count), value)
}

// mp3Frame returns a frame of MPEG 1 layer III with 128 kbit/s at 44.1 kHz.
func mp3Frame() []byte {
	return append([]byte("\xff\xfb\x90\x00"), make([]byte, 413)...)
}

// slowFrame returns a frame of MPEG 2.5 layer III with 8 kbit/s at 8 kHz.
func slowFrame() []byte {
	return append([]byte("\xff\xe3\x18\x00"), make([]byte, 68)...)
}

func xing(frames uint32) []byte {
	frame := mp3Frame()
	copy(frame[36:], slices.Concat(text("Xing"), u32(1), u32(frames)))
	return frame
}

func vbri(frames uint32) []byte {
	frame := mp3Frame()
	copy(frame[36:], slices.Concat(text("VBRI"), make([]byte, 10), u32(frames)))
	return frame
}

func box(kind string, data ...[]byte) []byte {
	body := slices.Concat(data...)
	return slices.Concat(u32(uint32(len(body)+8)), text(kind), body)
}

func nested(kind string, depth int) []byte {
	var b []byte
	for range depth {
		b = box(kind, b)
	}
	return b
}

func mp4File(boxes ...[]byte) []byte {
	return slices.Concat(box("ftyp", text("isom"), u32(0), text("isom")), slices.Concat(boxes...))
}

func mvhd(clock, duration uint32) []byte {
	return box("mvhd", u32(0), u32(0), u32(0), u32(clock), u32(duration), make([]byte, 80))
}

func mdhd(clock uint32) []byte {
	return box("mdhd", u32(0), u32(0), u32(0), u32(clock), u32(0), u32(0))
}

func hdlr(handler string) []byte { return box("hdlr", u32(0), u32(0), text(handler), make([]byte, 13)) }

func stts(samples, units uint32) []byte { return box("stts", u32(0), u32(1), u32(samples), u32(units)) }

func stsd(entry []byte) []byte { return box("stsd", u32(0), u32(1), entry) }

func tkhd() []byte { return box("tkhd", u32(0), u32(0), u32(0), u32(1), make([]byte, 68)) }

func soundTrack(boxes ...[]byte) []byte {
	return box("trak", tkhd(), box("mdia", mdhd(1000), hdlr("soun"), stsd(box("mp4a", make([]byte, 28)))), slices.Concat(boxes...))
}

func mp4Sound(clock uint32, boxes ...[]byte) []byte {
	return mp4File(box("moov", mvhd(1, 0), soundTrack(box("mdia", mdhd(clock), slices.Concat(boxes[:1]...)), slices.Concat(boxes[1:]...))), box("mdat", text("x")))
}

// avcC returns a box with a parameter set. width and height are in macroblocks; crop is how many
// pixels are cropped at the left, right, top and bottom.
func avcC(width, height int, crop ...int) []byte {
	bits := ""
	golomb := func(values ...int) {
		for _, v := range values {
			number := strconv.FormatInt(int64(v)+1, 2)
			bits += strings.Repeat("0", len(number)-1) + number
		}
	}
	golomb(0, 0, 0, 0, 1) // ID of the set, lengths of counters, reference frames
	bits += "0"
	golomb(width-1, height-1)
	bits += "11" // frames, direct inference
	if len(crop) > 0 {
		bits += "1"
		golomb(crop...)
	} else {
		bits += "0"
	}
	bits += "01" // no usability information, and the end
	bits += strings.Repeat("0", (8-len(bits)%8)%8)

	set := []byte{0x67, 66, 0, 30}
	for i := 0; i < len(bits); i += 8 {
		b, err := strconv.ParseUint(bits[i:i+8], 2, 8)
		if err != nil {
			panic(err) // the bits are ours
		}
		set = append(set, byte(b))
	}
	return box("avcC", []byte{1, 66, 0, 30, 0xff, 0xe1, 0, byte(len(set))}, set)
}

func mp4Video(width, height uint16, codec string, boxes ...[]byte) []byte {
	var entry []byte
	if codec != "" {
		fields := make([]byte, 78)
		binary.BigEndian.PutUint16(fields[24:], width)
		binary.BigEndian.PutUint16(fields[26:], height)
		entry = box(codec, fields, slices.Concat(boxes...))
	}
	track := box("trak", tkhd(), box("mdia", mdhd(1000), hdlr("vide"), stsd(entry), stts(10, 100)))
	return mp4File(box("moov", mvhd(1000, 1000), track), box("mdat", text("x")))
}
