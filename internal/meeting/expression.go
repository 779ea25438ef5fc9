package meeting

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

const (
	noConnection = "REMOVE connectionId, connectedAt, #format"
	running      = "#status IN (:copying, :ready)"
	copyingOn    = "#status = :copying AND attribute_not_exists(cancelled)"
	fileKept     = "attribute_not_exists(cancelled) AND #status IN (:ready, :delivered, :expired)"
)

// values has the values of an expression's placeholders. A name that begins with # is
// replaced by an attribute's name, any other by a value.
type values map[string]any

// errCondition: the condition does not hold, though there is an item.
var errCondition = errors.New("the condition does not hold")

// ifUnmet returns meaning for errCondition, and any other err as it is.
func ifUnmet(err, meaning error) error {
	if errors.Is(err, errCondition) {
		return meaning
	}
	return err
}

// update applies expression where condition holds and returns the changed item. Where it
// doesn't hold, the error is errCondition, with the item, or [ErrUnknown] if there is
// none. All conditions but AdmitWait's fail without an item.
//
// The SDK repeats a call whose reply was lost. Each update of this package may be
// applied twice without harm. Where the first application makes the condition false (a
// token or a connection that was removed), the caller treats the failure as success, or
// reads the item again.
func (t *Table) update(ctx context.Context, arn, expression, condition string, v values) (Item, error) {
	out, err := t.DynamoDB.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &t.Name, Key: key(arn),
		UpdateExpression: &expression, ConditionExpression: &condition,
		ExpressionAttributeNames:            names(expression+condition, v),
		ExpressionAttributeValues:           attributes(v),
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}, againAfterConflict)
	if err != nil {
		return failed("update", err)
	}
	return decode(out.Attributes)
}

// remove deletes the item where condition holds. Otherwise it returns what update does.
func (t *Table) remove(ctx context.Context, arn, condition string, v values) (Item, error) {
	_, err := t.DynamoDB.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &t.Name, Key: key(arn),
		ConditionExpression:                 &condition,
		ExpressionAttributeNames:            names(condition, v),
		ExpressionAttributeValues:           attributes(v),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}, againAfterConflict)
	if err != nil {
		return failed("delete", err)
	}
	return Item{}, nil
}

// transact applies writes to two items, both or none. Only the first one, to the
// download's item, has a condition. If that doesn't hold, transact returns what update
// does; otherwise it returns no item.
//
// The SDK gives each call a token, so that a call repeated after a lost reply is applied
// once and succeeds.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-apis-txwriteitems-idempotency
func (t *Table) transact(ctx context.Context, writes ...types.TransactWriteItem) (Item, error) {
	_, err := t.DynamoDB.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: writes}, againAfterConflict)
	if err != nil {
		return failed("write", err)
	}
	return Item{}, nil
}

// change is an update in a transaction. condition may be "".
func (t *Table) change(arn, expression, condition string, v values) types.TransactWriteItem {
	u := &types.Update{
		TableName: &t.Name, Key: key(arn),
		UpdateExpression:                    &expression,
		ExpressionAttributeNames:            names(expression+condition, v),
		ExpressionAttributeValues:           attributes(v),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	if condition != "" {
		u.ConditionExpression = &condition
	}
	return types.TransactWriteItem{Update: u}
}

// againAfterConflict makes the SDK repeat a write that met another one's transaction on
// the same item, or a transaction that met another write: both were refused without any
// effect. The SDK doesn't repeat them.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-conflict-handling
func againAfterConflict(o *dynamodb.Options) { o.Retryer = afterConflict{o.Retryer} }

type afterConflict struct{ aws.Retryer }

func (r afterConflict) IsErrorRetryable(err error) bool {
	return errors.As(err, new(*types.TransactionConflictException)) || cancelledBy(err, "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded") != nil ||
		r.Retryer.IsErrorRetryable(err)
}

// cancelledBy returns the first of a cancelled transaction's reasons that has one of the
// codes, nil if there is none.
func cancelledBy(err error, codes ...string) *types.CancellationReason {
	var cancelled *types.TransactionCanceledException
	if !errors.As(err, &cancelled) {
		return nil
	}
	for _, reason := range cancelled.CancellationReasons {
		if slices.Contains(codes, aws.ToString(reason.Code)) {
			return &reason
		}
	}
	return nil
}

// failed returns the item, if there is one, and the error of a conditional write.
func failed(verb string, err error) (Item, error) {
	var condition *types.ConditionalCheckFailedException
	var there map[string]types.AttributeValue
	if reason := cancelledBy(err, "ConditionalCheckFailed"); reason != nil {
		there = reason.Item
	} else if errors.As(err, &condition) {
		there = condition.Item
	} else {
		return Item{}, fmt.Errorf("%s item: %w", verb, err)
	}
	if there == nil {
		return Item{}, ErrUnknown
	}
	item, err := decode(there)
	if err != nil {
		return Item{}, err
	}
	return item, errCondition
}

func key(arn string) map[string]types.AttributeValue {
	return attributes(values{"executionArn": arn})
}

// names returns the names behind an expression's placeholders: reserved words of DynamoDB,
// and those in v.
func names(expressions string, v values) map[string]string {
	n := map[string]string{}
	for _, word := range []string{"status", "format"} {
		if strings.Contains(expressions, "#"+word) {
			n["#"+word] = word
		}
	}
	for name, value := range v {
		if name[0] == '#' {
			n[name] = value.(string)
		}
	}
	if len(n) == 0 {
		return nil // an empty map is refused
	}
	return n
}

// attributes encodes values, whose types are this package's own and encodable.
func attributes(v values) map[string]types.AttributeValue {
	encode := map[string]any{}
	for name, value := range v {
		if name[0] != '#' {
			encode[name] = value
		}
	}
	if len(encode) == 0 {
		return nil
	}
	m, err := attributevalue.MarshalMap(encode)
	if err != nil {
		panic(err)
	}
	return m
}

func decode(attributes map[string]types.AttributeValue) (Item, error) {
	var item Item
	if err := attributevalue.UnmarshalMap(attributes, &item); err != nil {
		return Item{}, fmt.Errorf("decode item: %w", err)
	}
	for name, value := range attributes {
		if segment, ok := strings.CutPrefix(name, copiedPrefix); ok {
			if item.copied == nil {
				item.copied = map[string]int64{}
			}
			var n int64
			if err := attributevalue.Unmarshal(value, &n); err != nil {
				return Item{}, fmt.Errorf("decode item: %w", err)
			}
			item.copied[segment] = n
		}
	}
	return item, nil
}
