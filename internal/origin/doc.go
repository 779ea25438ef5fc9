// Package origin reads files from the HTTP server that the stack stands in front
// of. It decides which URLs and addresses may be called and what a reply has to
// say to be believed, and it knows nothing of where the bytes go.
//
// [Join] makes a file's URL from the configured base and what a client sent.
// [Client.Open] asks for the file's first bytes with a Range request and learns
// from the reply what kind of origin this is:
//
//   - 206 with a right Content-Range and a strong ETag: [File.Ranged] is true,
//     and any part of the file can be read with [File.Range], in parallel, every
//     request pinned to that ETag by If-Match;
//   - anything else that is a file: one body, read once with [File.Stream].
//
// The body that came with the first reply is used, never thrown away, unless the
// reply can't be believed or can't be pinned.
//
// Retries of requests to the origin live here and nowhere else: a range goes on from the byte it broke at.
// What comes out is a [failure.Error] or, when the origin asks for a longer wait
// than a running Lambda should sit out, a [Later].
//
// No error text of this package holds a URL's path or query, or a header's value.
package origin
