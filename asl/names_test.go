package asl_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"async-download/internal/copying"
	"async-download/internal/download"
	"async-download/internal/failure"
	"async-download/internal/transfer"
)

// aws has the errors of AWS, each with its source.
var aws = []string{
	// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
	"States.ALL", "States.Timeout",
	"Lambda.Unknown", "Sandbox.Timedout",
	// https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html#bp-lambda-serviceexception
	"Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException",
	"Lambda.TooManyRequestsException", "Lambda.ClientExecutionTimeoutException",
	// a worker that ran out of memory or exited, as seen in a history:
	// https://github.com/awslabs/amazon-s3-find-and-forget/pull/283
	"Runtime.ExitError", "Runtime.OutOfMemory", "Runtime.Unknown", "Function.Unknown", "Sandbox.Failure",
	// https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_Errors
	"Lambda.ResourceNotReadyException", "Lambda.ResourceConflictException", "Lambda.EC2ThrottledException",
	// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateItem.html#API_UpdateItem_Errors;
	// the integration adds the suffix Exception if the API has none, and writes the service in Pascal case:
	// https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html
	"DynamoDb.ConditionalCheckFailedException", "DynamoDb.ProvisionedThroughputExceededException",
	"DynamoDb.ThrottlingException", "DynamoDb.RequestLimitExceededException", "DynamoDb.TransactionConflictException",
	"DynamoDb.InternalServerErrorException", "DynamoDb.SdkClientException",
	// errors without their own type in the SDK, as seen on AWS:
	// https://github.com/localstack/localstack/blob/main/tests/aws/services/stepfunctions/v2/error_handling/test_aws_sdk.snapshot.json
	"DynamoDb.DynamoDbException",
	// https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartSyncExecution.html#API_StartSyncExecution_Errors
	"Sfn.SfnException", "Sfn.SdkClientException", "Sfn.StateMachineDoesNotExistException",
}

func TestErrorNamesExist(t *testing.T) {
	var codes []string
	for _, code := range failure.Codes() {
		codes = append(codes, string(code))
	}
	deliveries := append([]string{download.ConnectionOpening, download.ConnectionGone}, codes...)
	ours := append(deliveries, string(failure.Throttled))
	exists := func(name string) bool {
		// Both spellings of the service occur; each error is listed with both.
		if error, ok := strings.CutPrefix(name, "DynamoDB."); ok {
			name = "DynamoDb." + error
		}
		return slices.Contains(ours, name) || slices.Contains(aws, name)
	}
	every(t, func(t *testing.T, m machine, s named) {
		lists := [][]string{}
		for _, r := range s.Retry {
			lists = append(lists, r.ErrorEquals)
		}
		for _, c := range s.Catch {
			lists = append(lists, c.ErrorEquals)
		}
		for _, list := range lists {
			for _, name := range list {
				if !exists(name) {
					t.Errorf("got error %q, want one that exists", name)
				}
				if error, ok := strings.CutPrefix(name, "DynamoDb."); ok && !slices.Contains(list, "DynamoDB."+error) {
					t.Errorf("got only %q, want DynamoDB.%s as well", name, error)
				}
			}
		}
		// An execution ends with the code that the client got.
		for _, code := range []string{s.Error, s.Result["Error"]} {
			if code != "" && !slices.Contains(codes, code) {
				t.Errorf("ends as %q, want a code of internal/failure", code)
			}
		}
		for _, r := range comparisons(s.Choices) {
			if r.StringEquals == nil {
				continue
			}
			var want []string
			switch r.Variable {
			case "$.delivery.Status":
				// https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartSyncExecution.html
				want = []string{"SUCCEEDED", "FAILED", "TIMED_OUT"}
			case "$.delivery.Error":
				want = deliveries
			case "$.failure.code":
				want = codes
			}
			if !slices.Contains(want, *r.StringEquals) {
				t.Errorf("compares %s with %q, want one of %q", r.Variable, *r.StringEquals, want)
			}
		}
	})
}

// comparisons returns the rules that compare a variable, without those that combine
// other rules.
func comparisons(rules []rule) (all []rule) {
	for _, r := range rules {
		if len(r.And) > 0 {
			all = append(all, comparisons(r.And)...)
			continue
		}
		all = append(all, r)
	}
	return all
}

// A missing path in a Choice or a Fail ends the execution with States.Runtime,
// which can't be caught.
// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
func TestChoicesReadOnlyWhatIsThere(t *testing.T) {
	for _, m := range machines(t) {
		there := map[string]bool{"$.delivery.Status": true} // StartSyncExecution always returns it
		for _, s := range m.States {
			for key := range s.ResultSelector {
				if s.ResultPath != nil {
					there[*s.ResultPath+"."+strings.TrimSuffix(key, ".$")] = true
				}
			}
		}
		for _, s := range m.States {
			for _, r := range s.Choices {
				checked := maps.Clone(there)
				for _, c := range comparisons([]rule{r}) {
					if c.IsPresent != nil && *c.IsPresent {
						checked[c.Variable] = true
					} else if !checked[c.Variable] {
						t.Errorf("%s: %s: compares %s, which may be missing; want IsPresent before it", m.file, s.Name, c.Variable)
					}
				}
			}
			for _, path := range []string{s.ErrorPath, s.CausePath, s.SecondsPath} {
				if path != "" && !there[path] {
					t.Errorf("%s: %s: reads %s, which may be missing", m.file, s.Name, path)
				}
			}
		}
	}
}

// What is read from the download's input and from a function's result is in its Go type: a
// path that a ResultSelector doesn't find fails the state. What states pass to functions is
// tested in events/.
func TestResultsHaveWhatIsRead(t *testing.T) {
	work, output := fields(transfer.Work{}), fields(copying.Output{})
	for name := range work {
		output["work."+name] = work[name]
	}
	results := map[string]map[string]bool{
		"Copy the file": output, "Copy the segment": output, "Finish the copy": output, "Note the failure": fields(download.Noted{}),
	}
	start := fields(download.Input{})
	for _, m := range machines(t) {
		for _, s := range m.States {
			for _, path := range []string{s.TimeoutSecondsPath, s.MaxConcurrencyPath} {
				if _, ok := start[strings.TrimPrefix(path, "$.")]; path != "" && !ok {
					t.Errorf("%s: reads %s, which isn't in the input that the download function sets", s.Name, path)
				}
			}
			result, ok := results[s.Name]
			if !ok {
				continue
			}
			delete(results, s.Name)
			for _, path := range s.ResultSelector {
				if omitted, ok := result[strings.TrimPrefix(path.(string), "$.Payload.")]; !ok || omitted {
					t.Errorf("%s: reads %s, which the function's result may not have", s.Name, path)
				}
			}
		}
	}
	for name := range results {
		t.Errorf("got no state %q", name)
	}
}

// fields returns the JSON names of a struct's fields, and whether each may be omitted.
func fields(v any) map[string]bool {
	names := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		if name, options, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names[name] = strings.Contains(options, "omit")
		}
	}
	return names
}
