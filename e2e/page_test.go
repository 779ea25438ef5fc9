package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"async-download/e2e/browser"
)

// TestPageWithASlowFile reloads the page during a copy, and compares its estimate with
// the time that the copy takes.
func TestPageWithASlowFile(t *testing.T) {
	t.Parallel()
	const path = "/file/48MiB/page%20one.bin?noranges&rate=2MiB"
	p := browser.Open(t, browser.Start(t), stack.env["API_URL"]) // below the stage, without a slash
	p.Enter(path[1:])
	p.Until("progress", `0 < page.progress.value && page.progress.value < 1`)
	began := time.Now()
	p.Until("15 seconds of it", `view.copied > 32 << 20`)
	at, copied, left := time.Now(), browser.Eval[float64](p, `view.copied`), p.Text("pace")
	p.Do(chromedp.Reload())
	p.Until("progress after the reload", fmt.Sprintf(`typeof page !== "undefined" && page.progress.value > 0 && view.copied >= %v`, copied))
	p.Until("all bytes", `page.title.textContent === "Ready: page one.bin" || view.copied === view.total`)
	var said float64
	_, estimate, _ := strings.Cut(left, "· ")
	if _, err := fmt.Sscanf(estimate, "%f s left", &said); err != nil {
		t.Fatalf("after %s: got %q", at.Sub(began), left)
	}
	// A busy machine stands still for seconds, before or after. How exact an estimate is when it
	// doesn't is tested in virtual time.
	if got := time.Since(at).Seconds(); said > 3*got+5 || said < got/3-10 {
		t.Errorf("after %s: got %q, but it took %.1f s", at.Sub(began), left, got)
	}
	p.Until("the link", `page.title.textContent === "Ready: page one.bin"`)
	p.Saved("page one.bin", sum(t, path))
	p.Quiet()
}

// TestPage uses the page and its client.js on the deployed stack; e2e/page has what
// needs no stack.
func TestPage(t *testing.T) {
	chromium := browser.Start(t)
	api := stack.env["API_URL"]

	t.Run("with a ticket", func(t *testing.T) {
		setEnv(t, "DownloadFunction", "REQUIRE_TICKET", "true")
		defer setEnv(t, "DownloadFunction", "REQUIRE_TICKET", "false")
		const noPolls = `{ const ask = fetch; window.fetch = (url, options) => String(url).includes("/executions/") && !options.method ? new Promise(() => {}) : ask(url, options) }`
		const noSockets = `window.WebSocket = class { constructor() { throw new Error("blocked") } }`
		for name, script := range map[string]string{"socket.bin": noPolls, "polled.bin": noSockets} {
			p := browser.Open(t, chromium, api+"/", script)
			p.Enter("file/1MiB/" + name)
			p.Saved(name, sum(t, "/file/1MiB/"+name))
			if browser.Eval[string](p, `kept.job.ticket`) == "" {
				t.Error("there was no ticket")
			}
			if script == noPolls {
				continue
			}
			p.Enter("file/64MiB/cancel.bin?noranges&rate=4MiB")
			p.Until("progress", `view.phase === "copying" && kept.path.includes("cancel.bin") && page.progress.value > 0`)
			arn := browser.Eval[string](p, `kept.job.executionArn`)
			p.Click("cancel")
			p.Until("the end", `page.title.textContent === "The download was cancelled"`)
			if out := ended(t, arn); *out.Error != "CANCELLED" {
				t.Errorf("execution: got %s, want CANCELLED", *out.Error)
			}
			nothingStored(t, arn)
			if got := p.Files(); len(got) != 0 {
				t.Errorf("files: got %q, want none", got)
			}
		}
	})

	t.Run("client.js in a page of another origin", func(t *testing.T) {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, `<!doctype html><title>app</title><script type="module">
				import { download } from "%[1]s/client.js"
				const onProgress = ({ bytesCopied, bytesTotal }) => console.debug(bytesCopied, bytesTotal)
				const file = await download("%[1]s", "file/1MiB/app.bin", { onProgress })
				location.assign(file.url)
			</script>`, api)
		}))
		defer app.Close()
		p := browser.Open(t, chromium, app.URL)
		p.Saved("app.bin", sum(t, "/file/1MiB/app.bin"))
	})

	t.Run("headers", func(t *testing.T) {
		for path, want := range map[string]map[string]string{
			"":           {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"},
			"/client.js": {"Content-Type": "text/javascript; charset=utf-8", "Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff"},
		} {
			header, body := load(t, api+path, "")
			for name, want := range want {
				if got := header.Get(name); got != want {
					t.Errorf("GET %s: %s: got %q, want %q", path, name, got, want)
				}
			}
			if got := header.Get("Content-Security-Policy"); path == "" && (!strings.HasPrefix(got, "default-src 'none'; script-src 'sha256-") || strings.Contains(got, "unsafe")) {
				t.Errorf("policy: got %q", got)
			}
			if tag := header.Get("ETag"); tag != "" {
				if _, again := load(t, api+path, tag); body == "" || again != "" {
					t.Errorf("GET %s: got %d bytes, and %d for the same ETag", path, len(body), len(again))
				}
			}
		}
	})
}

// load returns the header and the body of url, which may be the version tag.
func load(t *testing.T, url, tag string) (http.Header, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("If-None-Match", tag)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || tag != "" && resp.StatusCode != http.StatusNotModified {
		t.Fatalf("GET %s: status %d, error %v", url, resp.StatusCode, err)
	}
	return resp.Header, string(b)
}
