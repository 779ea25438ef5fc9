// Package transfer copies a file from an origin into S3. It is independent of Lambda and
// of the workflow; [Work], which is passed from one run to the next, is small JSON
// without a URL, a query or a secret.
//
// # Use
//
// [Copier.Start] does all of a copy that one run can do. Its [Outcome] is either
// the [Result] or the [Work] that is left: a plan, and segments of whole parts
// for [Copier.CopySegment], which any number of workers run at once, as often as
// needed. [Copier.Finish] reads back what is there and completes the object, or
// returns the segments that have gaps. [Copier.Abort] ends whatever is open for
// a key; the owner of a download calls it to give up.
//
//	outcome, err := copier.Start(ctx, src, key, meta)
//	for err == nil && outcome.Work != nil {
//		for _, segment := range outcome.Work.Segments {
//			copier.CopySegment(ctx, src, outcome.Work.Plan, segment) // in parallel; errors may be ignored
//		}
//		outcome, err = copier.Finish(ctx, src, *outcome.Work)
//	}
//
// Errors are [failure.Error] or wrap one. When the origin asks for a long wait
// the error is an [origin.Later] (errors.As): wait for its After, without a
// running Lambda, and call the same function again with the same arguments;
// everything that was copied is found again. A context that ends with a cause
// that is a failure.Error (a cancel) ends the call with that cause. At a
// deadline Start returns the work that is left and CopySegment returns nil, as
// what they did isn't lost; a deadline that leaves no part to be copied, only the
// completion, is an origin.Later too. Give them a context that ends some seconds
// before the process does.
//
// # The object
//
// The object alone is enough to deliver it again. HeadObject, with ChecksumMode
// ENABLED, gives:
//
//   - Content-Type and Content-Encoding as the origin sent them, the bytes as
//     sent too;
//   - Content-Disposition: attachment with the file's name, fit for a header
//     (see [Disposition]);
//   - the checksum: CRC-64/NVME of the whole object (ChecksumType FULL_OBJECT).
//     It isn't known when an upload is created, which is the only time when S3 accepts
//     metadata, so it is stored only as S3's checksum;
//   - metadata [object.MetaVerified], "true" if the end of the file was proven, and
//     [object.MetaValidator], the origin's ETag, if it had one; beside these the
//     metadata given to Start. [FromHead] reads all of it.
package transfer
