"""The built-in builders' notifications, which are known whether or not the builder is in use."""

from orchestrator.adapters.codebuild_notifications import CodeBuildNotifications
from orchestrator.adapters.step_functions_notifications import StepFunctionsNotifications
from orchestrator.core.notifications import Notifications

BUILT_IN_NOTIFICATIONS = Notifications((CodeBuildNotifications(), StepFunctionsNotifications()))
