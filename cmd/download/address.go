package main

import (
	"net/url"
	"regexp"
	"strings"
)

// target is one file to ask for.
type target struct {
	ask  *url.URL // API_URL/download[/path][?query]
	path string   // as the origin calls the file, percent-encoded, without query
}

var errNoAPI = exitError(exitUsage, "want API_URL[/PATH], or PATH where the environment variable API_URL is set; -h explains")

var errNoURL = exitError(exitUsage, "the API's URL has to begin with https:// (or http://) and a host")

func parseAPI(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	// The text isn't quoted: there may be a password or a query in it.
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errNoURL
	}
	if u.User != nil || u.Fragment != "" {
		return nil, exitError(exitUsage, "the API's URL can't have a user or a #fragment; -H sends credentials")
	}
	return u, nil
}

// targets reads the arguments. Each URL is one download, unless
// paths follow: then it is the API's URL, and each path is a download. Without
// any URL, the paths are those of the API at preset, which may be "".
func targets(arguments []string, preset string) ([]target, error) {
	isURL := func(text string) bool { return strings.Contains(text, "://") }
	var all []target
	add := func(t target, err error) error {
		all = append(all, t)
		return err
	}
	base := preset
	for i, argument := range arguments {
		var err error
		switch {
		case isURL(argument) && i+1 < len(arguments) && !isURL(arguments[i+1]):
			base = argument
		case isURL(argument):
			err = add(splitURL(argument))
		case base == "":
			err = errNoAPI
		default:
			err = add(joinURL(base, argument))
		}
		if err != nil {
			return nil, err
		}
	}
	if len(arguments) == 0 && preset != "" {
		if err := add(joinURL(preset, "")); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, errNoAPI
	}
	return all, nil
}

// Where an API's own path ends is known for API Gateway's names, whose first
// segment is the stage, for the local stack's, and where "download" follows, as
// in a request by curl.
var (
	gatewayHost = regexp.MustCompile(`\.execute-api\.`)
	gatewayPath = regexp.MustCompile(`^/[^/]+`)
	localPath   = regexp.MustCompile(`^/_aws/execute-api/[^/]+/[^/]+`)
	askedPath   = regexp.MustCompile(`^(.*?)/download(/|$)`)
)

// splitURL finds the API's URL in API_URL[/download]/PATH?QUERY.
func splitURL(text string) (target, error) {
	u, err := parseAPI(text)
	if err != nil {
		return target{}, err
	}
	path := u.EscapedPath()
	own := localPath.FindString(path)
	if own == "" && gatewayHost.MatchString(u.Hostname()) {
		own = gatewayPath.FindString(path)
	}
	rest := strings.TrimPrefix(path, own)
	if m := askedPath.FindStringSubmatch(rest); m != nil && (own == "" || m[1] == "") {
		own, rest = own+m[1], rest[len(m[0]):]
	} else if own == "" {
		own, rest = strings.TrimRight(path, "/"), ""
		if u.RawQuery != "" {
			return target{}, exitError(exitUsage, "it isn't clear where the API's URL ends and the path begins; separate them: API_URL PATH?QUERY")
		}
	}
	rest = strings.TrimPrefix(rest, "/")
	if u.RawQuery != "" {
		rest += "?" + u.RawQuery
	}
	return joinURL(u.Scheme+"://"+u.Host+own, rest)
}

// joinURL builds the URL to ask. The path stays as it was given: it may hold
// encoded slashes, which only the origin can interpret.
func joinURL(base, path string) (target, error) {
	api, err := parseAPI(strings.TrimRight(base, "/"))
	if err != nil {
		return target{}, err
	}
	if api.RawQuery != "" {
		return target{}, exitError(exitUsage, "the query belongs to the path: API_URL PATH?QUERY")
	}
	path, query, hasQuery := strings.Cut(path, "?")
	path = strings.TrimPrefix(path, "/")
	text := api.String() + "/download"
	if path != "" {
		text += "/" + path
	}
	if hasQuery {
		text += "?" + query
	}
	ask, err := url.Parse(text)
	if err != nil || ask.Fragment != "" || strings.ContainsAny(query, " \"<>") {
		return target{}, exitError(exitUsage, "the path or query isn't that of a URL; encode what is special in it")
	}
	return target{ask, path}, nil
}
