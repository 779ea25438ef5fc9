// Package transfer copies a file from an origin into S3. It is independent of Lambda and
// of the workflow; [Work], which is passed from one run to the next, is small JSON
// without a URL, a query or a secret.
//
// # Use
//
// [Job.Start] does all of a copy that one run can do. Its [Outcome] is either the
// [Result] or the [Work] that is left: a plan, and segments of whole parts for
// [Job.CopySegment], which any number of workers run at once, as often as needed.
// [Job.Finish] lists the parts that are stored and completes the object, or returns the
// segments that have gaps. [Copier.Abort] gives a download up: it ends whatever is open
// for its key. The example of [Job] puts these together.
//
// Errors are a [failure.Error] or wrap one. After three of them (errors.As), make the same
// call with a new Job, which continues with what is stored. [origin.Later] and
// [origin.Accepted] have the time that the origin asked for: wait for that first, without
// a running Lambda. [OutOfTime] is a deadline that came while S3 was working and no part
// was left to be copied.
//
// A context that ends with a cause that is a failure.Error (a cancel) ends the call with
// that cause. At a deadline Start returns the work that is left, where the file has ranges
// and SegmentBytes is set, and CopySegment returns nil: what they copied is stored. Give
// them a context that ends some seconds before the process does.
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
//   - the metadata that package object names, and that of [Job.Metadata].
package transfer
