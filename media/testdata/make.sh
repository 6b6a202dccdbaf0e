#!/bin/sh
# Generates the files in this folder with real encoders; see README.md. Tests use the committed files,
# so run this only to add one.
set -eu
cd "$(dirname "$0")"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

im=convert
ff() { ffmpeg -nostdin -hide_banner -loglevel error -y -bitexact "$@"; }

# Pictures

$im -seed 1 -size 67x43 plasma:red-blue "$scratch/plasma.png"
$im "$scratch/plasma.png" "$scratch/plasma.ppm"

$im "$scratch/plasma.png" -strip -quality 60 baseline.jpg
$im "$scratch/plasma.png" -strip -quality 60 -interlace Plane progressive.jpg
$im "$scratch/plasma.png" -strip -quality 60 -colorspace CMYK cmyk.jpg
$im "$scratch/plasma.png" -strip -quality 60 -colorspace Gray gray.jpg
$im "$scratch/plasma.png" -strip -quality 60 -define jpeg:restart-interval=2 restart.jpg
printf '0;\n1;\n2;\n' >"$scratch/scans"
cjpeg -quality 60 -scans "$scratch/scans" "$scratch/plasma.ppm" >separate.jpg
jpegtran -progressive -restart 1 -outfile progressive_restart.jpg baseline.jpg
jpegtran -progressive -outfile progressive_cmyk.jpg cmyk.jpg
cp baseline.jpg orientation6.jpg
exiftool -q -overwrite_original -n -Orientation=6 -Make=Example orientation6.jpg
cp baseline.jpg orientation3.jpg
exiftool -q -overwrite_original -n -Orientation=3 orientation3.jpg

$im "$scratch/plasma.png" -strip -depth 8 rgb8.png
$im "$scratch/plasma.png" -strip -depth 16 -define png:color-type=2 -define png:bit-depth=16 rgb16.png
$im "$scratch/plasma.png" -strip -interlace PNG interlaced.png
$im "$scratch/plasma.png" -strip -colors 16 -define png:color-type=3 palette.png
$im "$scratch/plasma.png" -strip -alpha set -channel A -evaluate set 50% alpha.png
cp rgb8.png orientation6.png
exiftool -q -overwrite_original -n -Orientation=6 orientation6.png

$im "$scratch/plasma.png" BMP3:bottomup.bmp
$im "$scratch/plasma.png" BMP2:os2.bmp
$im "$scratch/plasma.png" -colors 16 -compress RLE BMP3:runlength.bmp
$im "$scratch/plasma.png" -alpha set BMP:alpha.bmp
# No encoder at hand writes rows from the top down: the same picture, with the sign of its height turned.
{ head -c 22 bottomup.bmp; printf '\325\377\377\377'; tail -c +27 bottomup.bmp; } >topdown.bmp

$im "$scratch/plasma.png" -strip -endian LSB -compress LZW little.tif
$im "$scratch/plasma.png" -strip -endian MSB -compress None big.tif
$im "$scratch/plasma.png" -strip -colorspace CMYK -compress Zip cmyk.tif
tiffcp -t -w 16 -l 16 big.tif tiled.tif
tiffcp -r 1 -c packbits big.tif strips.tif
cp little.tif orientation8.tif
tiffset -s 274 8 orientation8.tif

$im "$scratch/plasma.png" -colors 32 still.gif
$im -delay 10 -size 61x37 xc:red xc:green xc:blue -loop 0 animated.gif
$im -delay 10 -size 61x37 xc:red \( -size 20x10 xc:white -repage +5+5 \) -loop 0 animated_offset.gif
$im "$scratch/plasma.png" -colors 32 -interlace GIF interlaced.gif
$im still.gif -repage +10+20 oversized.gif

cwebp -quiet -q 50 "$scratch/plasma.png" -o lossy.webp
cwebp -quiet -lossless "$scratch/plasma.png" -o lossless.webp
cwebp -quiet -q 50 alpha.png -o alpha.webp
gif2webp -quiet animated.gif -o animated.webp
printf 'II*\000\010\000\000\000\001\000\022\001\003\000\001\000\000\000\006\000\000\000\000\000\000\000' >"$scratch/exif"
webpmux -set exif "$scratch/exif" lossy.webp -o orientation6.webp >"$scratch/log" 2>&1

# Sound

ff -f lavfi -i "sine=frequency=440:duration=2,aformat=channel_layouts=stereo:sample_rates=44100" "$scratch/stereo.wav"
ff -f lavfi -i "sine=frequency=440:duration=2,aformat=channel_layouts=mono:sample_rates=48000" "$scratch/mono.wav"
ff -f lavfi -i "sine=frequency=440:duration=2,aformat=channel_layouts=stereo:sample_rates=22050" "$scratch/22050.wav"
ff -f lavfi -i "sine=frequency=440:duration=2,aformat=channel_layouts=mono:sample_rates=11025" "$scratch/11025.wav"
ff -f lavfi -i "anoisesrc=duration=1:amplitude=0.3:seed=1,aformat=channel_layouts=stereo:sample_rates=44100" "$scratch/noise.wav"
ff -f lavfi -i "sine=frequency=440:duration=2,aformat=channel_layouts=stereo:sample_rates=44100,volume=0" "$scratch/silence.wav"
ff -i "$scratch/silence.wav" -i "$scratch/noise.wav" -filter_complex '[0][1]concat=v=0:a=1' "$scratch/varied.wav"

lame --quiet -b 64 "$scratch/stereo.wav" cbr.mp3
lame --quiet -V 7 "$scratch/varied.wav" vbr.mp3
lame --quiet --abr 80 "$scratch/varied.wav" abr.mp3
lame --quiet -V 7 -t "$scratch/varied.wav" vbr_bare.mp3
lame --quiet -b 48 -m m "$scratch/mono.wav" mono.mp3
lame --quiet -b 64 -t "$scratch/stereo.wav" cbr_bare.mp3
lame --quiet -b 32 "$scratch/22050.wav" mpeg2.mp3
lame --quiet -b 16 -m m "$scratch/11025.wav" mpeg25.mp3
lame --quiet -b 32 --resample 44.1 -m m --tt Title --ta Artist --id3v1-only "$scratch/mono.wav" id3v1.mp3
$im -seed 2 -size 600x600 xc: +noise Random -quality 70 "$scratch/cover.jpg"
ff -i cbr.mp3 -i "$scratch/cover.jpg" -map 0 -map 1 -c copy -id3v2_version 3 cover.mp3

ff -i "$scratch/stereo.wav" -c:a aac -b:a 48k aac.m4a
ff -i "$scratch/mono.wav" -c:a alac alac.m4a

# Video

v='testsrc2=size=150x82:rate=10:duration=2,format=yuv420p'
a='sine=frequency=440:duration=2'
x264='-c:v libx264 -preset veryfast -crf 40'
ff -f lavfi -i "$v" -f lavfi -i "$a" $x264 -c:a aac -b:a 32k moov_last.mp4
ff -i moov_last.mp4 -c copy -movflags +faststart moov_first.mp4
ff -i moov_last.mp4 -c copy -metadata:s:v rotate=90 rotated.mp4
ff -i moov_last.mp4 -c copy -movflags +frag_keyframe+empty_moov+default_base_moof fragmented.mp4
ff -f lavfi -i "$v" -f lavfi -i "$a" $x264 -g 5 -c:a aac -b:a 32k -movflags +frag_keyframe fragmented_hybrid.mp4
ff -f lavfi -i "$v" $x264 -g 5 -movflags +frag_keyframe+empty_moov+separate_moof+omit_tfhd_offset fragmented_separate.mp4
ff -i moov_last.mp4 -c copy -vn audio_only.mp4
ff -i moov_last.mp4 -c copy -an video_only.mp4
ff -f lavfi -i "testsrc2=size=151x83:rate=10:duration=1,format=yuv444p" $x264 odd_444.mp4
ff -f lavfi -i "testsrc2=size=150x84:rate=10:duration=2,format=yuv420p" $x264 -x264-params interlaced=1 interlaced.mp4
ff -f lavfi -i "$v" -c:v libx265 -preset veryfast -crf 40 -x265-params log-level=error -tag:v hvc1 h265.mp4
ff -f lavfi -i "$v" -c:v libx265 -preset veryfast -crf 40 -x265-params log-level=error -tag:v hev1 h265.mov
ff -f lavfi -i "$v" -f lavfi -i "$a" $x264 -c:a pcm_s16le -ar 8000 h264.mov
ff -i moov_last.mp4 -c copy -f mov -tag:v avc1 -vn audio_only.mov
ff -ss 0.95 -i moov_last.mp4 -c copy edited.mp4
