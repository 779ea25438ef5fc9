// Download is the client of this application: it asks for a file, waits for the
// copy on a WebSocket, and fetches the link it is given.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
