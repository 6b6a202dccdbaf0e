package media

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
)

const (
	// partBytes is how much of an upload to S3 is held in memory: the smallest part that S3
	// accepts.
	partBytes = 5 << 20
	// abortTimeout bounds how long an aborted upload waits until S3 has deleted its parts.
	abortTimeout = 10 * time.Second
)

// tuneUpload changes two settings of an upload to S3 that the driver does not expose. It is called
// by blob.WriterOptions.BeforeWrite. Without abortTimeout, an aborted upload could not delete its
// parts, because its context is cancelled: they would be invisible and cost money. Without the
// smaller part size, the first 16 MB of each file would be read before the first part is sent.
func tuneUpload(blobs *blob.Bucket, as func(any) bool) {
	var (
		uploads *transfermanager.Client
		client  *s3.Client
	)
	if !as(&uploads) || !blobs.As(&client) {
		return
	}
	*uploads = *transfermanager.New(client, func(o *transfermanager.Options) {
		o.RequestChecksumCalculation = client.Options().RequestChecksumCalculation // as the driver does
		o.PartSizeBytes, o.MultipartUploadThreshold, o.Concurrency = partBytes, partBytes, 1
		o.FailTimeout = abortTimeout
	})
}

// bucketOf returns the bucket of an s3:// URL and the prefix of its keys.
func bucketOf(address string) (bucket, prefix string) {
	u, err := url.Parse(address)
	if err != nil {
		return "", "" // cannot happen: the address was opened before
	}
	return u.Host, u.Query().Get("prefix")
}

// ownKey matches the keys of Parlor's files, which key creates from UUIDs.
var ownKey = regexp.MustCompile(`^[0-9a-f]{2}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// abortStrays aborts the uploads to S3 that have been unfinished for a day. No list of the bucket
// contains their parts, but they cost money.
func (b *Bucket) abortStrays(ctx context.Context) error {
	var client *s3.Client
	if !b.blobs.As(&client) {
		return nil
	}
	pages := s3.NewListMultipartUploadsPaginator(client, &s3.ListMultipartUploadsInput{Bucket: &b.bucket, Prefix: &b.prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("media: list unfinished uploads: %w", err)
		}
		var faults []error
		for _, upload := range page.Uploads {
			of := aws.ToString(upload.Key)
			if len(of) < len(b.prefix) || !ownKey.MatchString(of[len(b.prefix):]) || time.Since(aws.ToTime(upload.Initiated)) < strayAge {
				continue
			}
			_, err := client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.bucket, Key: upload.Key, UploadId: upload.UploadId})
			faults = append(faults, err)
		}
		if err := errors.Join(faults...); err != nil {
			return fmt.Errorf("media: abort unfinished uploads: %w", err)
		}
	}
	return nil
}
