"""The environment variables that a stack gives to its tasks or its function."""

from tests.deploy.templates import Stack


def environments(stack: Stack) -> dict[str, dict[str, str]]:
    """The variables, by the name of the task definition or the function."""
    tasks = {
        name: {
            variable["Name"]: variable["Value"]
            for variable in task["ContainerDefinitions"][0]["Environment"]
        }
        for name, task in stack.of_type("AWS::ECS::TaskDefinition").items()
    }
    functions = {
        name: dict(function["Environment"]["Variables"])
        for name, function in stack.of_type("AWS::Lambda::Function").items()
    }
    return {**tasks, **functions}
