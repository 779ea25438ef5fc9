package main

//lint:file-ignore SA1019 the manager is one of the tools to compare

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// runManager copies as most Go programs do: a GET piped into the SDK's upload
// manager with its defaults.
func runManager(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: bench manager URL s3://BUCKET/KEY")
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(args[1], "s3://"), "/")
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	resp, err := http.Get(args[0])
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the origin answered %s", resp.Status)
	}
	up := manager.NewUploader(s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }))
	_, err = up.Upload(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: resp.Body})
	return err
}
