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
	// partBytes is what an upload to S3 holds in memory: the least that S3 takes as a part.
	partBytes = 5 << 20
	// abandonTimeout bounds how long an upload waits until S3 has dropped its parts.
	abandonTimeout = 10 * time.Second
)

// tuneUpload is for blob.WriterOptions.BeforeWrite. The driver leaves two settings of an upload to S3 as they are:
// without abandonTimeout an upload that is given up cannot take its parts away, as its context is over, and nobody sees
// them or stops paying for them; and the first 16 MB of each file would be read before the first part goes.
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
		o.FailTimeout = abandonTimeout
	})
}

// bucketOf is the bucket of an s3:// URL, and what the keys in it begin with.
func bucketOf(address string) (bucket, prefix string) {
	u, err := url.Parse(address)
	if err != nil {
		return "", "" // such an address was not opened
	}
	return u.Host, u.Query().Get("prefix")
}

// ours is the keys of files, as key makes them of a UUID.
var ours = regexp.MustCompile(`^[0-9a-f]{2}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// abortStrays takes the parts away of uploads to S3 that nobody has finished for a day: they are in no list of the bucket,
// and are paid for.
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
			if len(of) < len(b.prefix) || !ours.MatchString(of[len(b.prefix):]) || time.Since(aws.ToTime(upload.Initiated)) < strayAge {
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
