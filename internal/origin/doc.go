// Package origin reads files from the stack's origin, an HTTP server. It decides
// which URLs and addresses may be called and which replies can be believed, and it
// knows nothing of where the bytes are stored.
//
// [Join] makes a file's URL from the configured base and what a client sent.
// [Client.Open] asks for the file's first bytes with a Range request and learns
// from the reply what the origin can do:
//
//   - 206 with a correct Content-Range and a validator that pins the version:
//     [File.Ranged] is true, and any part of the file can be read with
//     [File.Range], in parallel;
//   - any other reply that is a file: one body, read once with [File.Stream].
//
// The body of the first reply is used unless the reply can't be believed or
// pinned.
//
// A [Request] may also be a POST, which is sent once, and have headers of the caller's,
// which only the origin's own host gets. An origin that answers 202 has no file yet: the
// error is an [Accepted], and the same request is asked again later.
//
// Requests to the origin are retried here and nowhere else; a range continues at
// the byte where it broke. Errors are a [failure.Error], an [Accepted] or, when the
// origin asks for a longer wait than a running Lambda should sleep, a [Later].
//
// No error text of this package holds a URL's path or query, a header's value, or
// anything else that the origin sent.
package origin
