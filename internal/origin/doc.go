// Package origin reads files from the HTTP server behind the stack. It decides which
// URLs and addresses may be called and which replies are valid, and knows nothing about
// where the bytes go.
//
// [Join] builds a file's URL from the configured base and the client's path and query.
// [Client.Open] requests the file's first bytes with a Range request; the reply shows
// what kind of origin this is:
//
//   - 206 with a right Content-Range and a strong ETag: [File.Ranged] is true,
//     and any part of the file can be read with [File.Range], in parallel, every
//     request pinned to that ETag by If-Match;
//   - anything else that is a file: one body, read once with [File.Stream].
//
// The body that came with the first reply is used, never thrown away, unless the
// reply can't be believed or can't be pinned.
//
// Only this package repeats requests to the origin; a range continues at the byte where
// it broke. Errors are a [failure.Error] or, if the origin asks for a longer wait than a
// running Lambda should sleep, a [Later].
//
// No error text of this package holds a URL's path or query, or a header's value.
package origin
