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
	log.SetOutput(io.Discard) // only net/http logs there: unsolicited bytes of a server
	os.Exit(Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
