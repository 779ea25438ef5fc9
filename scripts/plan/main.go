// Command plan prints, as JSON, how many parts and segments files of the sizes in
// its arguments (bytes) are copied in, and how many codes a download can fail with.
// scripts/cost.py computes prices from it.
package main

import (
	"encoding/json"
	"log"
	"os"
	"strconv"

	"async-download/internal/failure"
	"async-download/internal/transfer"
)

func main() {
	type file struct {
		Parts    int64 `json:"parts"`
		Segments int64 `json:"segments"`
	}
	answer := struct {
		Files map[string]file `json:"files"`
		Codes int             `json:"codes"`
	}{Files: map[string]file{}, Codes: len(failure.Codes()) - 2} // CANCELLED and EXPIRED are counted under their own names
	for _, argument := range os.Args[1:] {
		size, err := strconv.ParseInt(argument, 10, 64)
		if err != nil {
			log.Fatal(err)
		}
		plan, err := transfer.NewPlan(size, transfer.PartSize, transfer.LargePartSize)
		if err != nil {
			log.Fatal(err)
		}
		answer.Files[argument] = file{int64(plan.Parts()), int64(len(plan.Segments(transfer.SegmentBytes)))}
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		log.Fatal(err)
	}
}
