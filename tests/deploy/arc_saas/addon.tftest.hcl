mock_provider "aws" {
  override_data {
    target = data.aws_ssm_parameter.api_gw_url
    values = { value = "arn:aws:execute-api:us-east-1:111122223333:a1b2c3" }
  }
  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "111122223333" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:us-east-1:111122223333:dead-letters" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::111122223333:policy/orchestrator" }
  }
}

variables {
  namespace   = "saas"
  environment = "dev"
}

run "the_target_gets_dead_letters_and_retries" {
  assert {
    condition = alltrue([
      for target in [
        aws_cloudwatch_event_target.api_gateway_target,
        aws_cloudwatch_event_target.orchestrator_lifecycle,
        aws_cloudwatch_event_target.orchestrator_builds,
        ] : (
        target.dead_letter_config[0].arn == aws_sqs_queue.orchestrator_dead_letters.arn
        && target.retry_policy[0].maximum_event_age_in_seconds == 86400
      )
    ])
    error_message = "A target has no dead-letter queue or does not retry for a day."
  }
  assert {
    condition     = aws_cloudwatch_event_target.api_gateway_target.target_id == "APIGatewayTarget"
    error_message = "The override has lost what the target was."
  }
}

run "the_new_rules_lead_to_the_same_target" {
  assert {
    condition = alltrue([
      for target in [
        aws_cloudwatch_event_target.orchestrator_lifecycle,
        aws_cloudwatch_event_target.orchestrator_builds,
        aws_cloudwatch_event_target.orchestrator_sweep,
        ] : (
        target.arn == "arn:aws:execute-api:us-east-1:111122223333:a1b2c3/dev/POST/events/*"
        && target.role_arn == module.eventbridge_role.arn
      )
    ])
    error_message = "A rule has another target than arc-saas's own."
  }
}

run "the_function_gets_its_settings_and_one_policy" {
  assert {
    condition = (
      module.lambda_function_container_image.given.number_of_policies == 1
      && module.lambda_function_container_image.given.policies[0] == aws_iam_policy.orchestrator.arn
    )
    error_message = "The function keeps other policies."
  }
  assert {
    condition = (
      module.lambda_function_container_image.given.environment_variables["ORCHESTRATOR_LEDGER__TABLE"]
      == "saas-dev-orchestrator-ledger"
    )
    error_message = "The function has another ledger."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.orchestrator_redrive.enabled == false
    error_message = "Dead letters are handled without being asked for."
  }
}
