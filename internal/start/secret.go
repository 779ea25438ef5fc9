package start

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// token matches the name of a header: RFC 9110, section 5.6.2.
var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// originHeader reads the origin's headers from a secret, which is a JSON object of
// strings. Its errors never contain a value.
func originHeader(ctx context.Context, client *secretsmanager.Client, secretARN string) (http.Header, error) {
	out, err := client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &secretARN})
	if err != nil {
		return nil, fmt.Errorf("read the origin's secret: %w", err)
	}
	var headers map[string]string
	if out.SecretString == nil || json.Unmarshal([]byte(*out.SecretString), &headers) != nil {
		return nil, errors.New(`the origin's secret must be a JSON object of headers, as {"Authorization":"Bearer x"}`)
	}
	h := http.Header{}
	for name, value := range headers {
		value = strings.TrimSpace(value) // a newline that an editor added
		if !token.MatchString(name) || strings.ContainsFunc(value, unicode.IsControl) {
			return nil, fmt.Errorf("the origin's secret: %q can't be a header, or its value has a control character", name)
		}
		h.Set(name, value)
	}
	return h, nil
}
