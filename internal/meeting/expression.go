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

// update applies expression where condition holds and returns the item as it is
// then. Where it doesn't, the error is errCondition, with the item as it is, or
// [ErrUnknown] if there is none. Every condition is one that fails without an item.
//
// The SDK repeats a call whose reply was lost. Each update of this package may be
// applied twice without harm, and where a condition is made false by its own first
// application (a token or a connection that was removed), the callers take its
// failure for "done", or look again.
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

// remove deletes the item where condition holds. What it returns otherwise is as
// for update.
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
// download's item, has a condition; what transact returns where it doesn't hold is as for
// update. A transaction returns no item.
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

// change is update as a part of a transaction. condition may be "".
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

// failed is what becomes of the error of a conditional write.
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

// names gives the attributes that are reserved words of DynamoDB, where they occur,
// and those that v names.
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
