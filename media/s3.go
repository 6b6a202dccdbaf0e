package media

import (
	"time"

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
