# Changes to what terraform/decoupling-infra of arc-saas declares. Terraform merges a file named
# *_override.tf into the blocks of the same names, argument by argument.

# Without these EventBridge drops an event that can't be delivered.
resource "aws_cloudwatch_event_target" "api_gateway_target" {
  dead_letter_config {
    arn = aws_sqs_queue.orchestrator_dead_letters.arn
  }
  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }
}

# EventBridge may call the route of events, instead of everything in the account.
module "eventbridge_role" {
  policy_documents = [data.aws_iam_policy_document.orchestrator_delivery.json]
}

# The function may do what it calls, instead of administering DynamoDB, CodeBuild, API Gateway and
# EventBridge. API Gateway authenticates senders by IAM; the service knows them by their ARN.
module "lambda_function_container_image" {
  number_of_policies = 1
  policies           = [aws_iam_policy.orchestrator.arn]
  environment_variables = {
    TIER_DETAILS_TABLE                 = local.orchestrator_tiers
    EVENT_BUS_NAME                     = local.orchestrator_bus
    EVENT_BUS_AWS_REGION               = var.region
    DYNAMO_DB_REGION                   = var.region
    ORCHESTRATOR_LEDGER__TABLE         = aws_dynamodb_table.orchestrator_ledger.name
    ORCHESTRATOR_CALLBACK__URL         = var.orchestrator_callback_url
    ORCHESTRATOR_AUTH__METHODS         = jsonencode(["gateway"])
    ORCHESTRATOR_AUTH__GATEWAY__PROOF  = "lambda"
    ORCHESTRATOR_AUTH__GATEWAY__SCOPES = jsonencode(["events:write"])
  }
}
