// Download is the client of this application: it asks for a file, waits for the
// copy on a WebSocket, and fetches the link it is given.
package main

import (
	"context"
	"io"
	"log"
	"os"
)

func main() {
	log.SetOutput(io.Discard) // net/http writes there what a server sends without being asked; nothing else does
	os.Exit(Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
