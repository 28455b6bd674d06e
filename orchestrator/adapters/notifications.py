"""The built-in builders' notifications, recognized whether or not the builder is in use."""

from orchestrator.adapters.codebuild.notifications import CodeBuildNotifications
from orchestrator.adapters.step_functions.notifications import StepFunctionsNotifications
from orchestrator.core.jobs.notifications import Notifications

BUILT_IN_NOTIFICATIONS = Notifications((CodeBuildNotifications(), StepFunctionsNotifications()))
