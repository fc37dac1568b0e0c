"""The routes of documents, names and the server itself, which over MCP are no tools. No logic."""

from __future__ import annotations

from ktrdr_mcp import __version__
from ktrdr_mcp.contract import CONTRACT_VERSION, Lab, documents, requests
from ktrdr_mcp.faces.lab_route import LabRoute


def document_routes(lab: Lab) -> list[LabRoute]:
    """The routes of what MCP has as resources and completion, and of the server itself."""

    async def health(request: documents.Empty) -> documents.Health:
        return documents.Health(version=__version__, contract_version=CONTRACT_VERSION)

    async def history(request: requests.TaskOnly) -> documents.TrainingHistory:
        told = await lab.training_history(request.task_id)
        return documents.TrainingHistory(task_id=request.task_id, history=told)

    async def card(request: requests.LoadModel) -> documents.ModelCard:
        told = await lab.model_card(request.model_name)
        return documents.ModelCard(model_name=request.model_name, card=told)

    async def strategies(request: documents.Empty) -> documents.StrategyNames:
        return documents.StrategyNames(strategies=await lab.complete("strategy", ""))

    async def strategy(request: documents.ReadStrategy) -> documents.StrategyText:
        return documents.StrategyText(name=request.name, text=await lab.strategy_text(request.name))

    async def complete(request: documents.CompleteName) -> documents.Names:
        names = await lab.complete(request.kind, request.prefix)
        return documents.Names(kind=request.kind, names=names)

    return [
        LabRoute(
            "GET",
            "/health",
            "health",
            documents.Empty,
            documents.Health,
            health,
            "Whether the laboratory answers, and its versions.",
        ),
        LabRoute(
            "GET",
            "/training/{task_id}/history",
            "training_history",
            requests.TaskOnly,
            documents.TrainingHistory,
            history,
            "A task's whole story: specification, every epoch, metrics.",
            (404,),
        ),
        LabRoute(
            "GET",
            "/models/{model_name}",
            "model_card",
            requests.LoadModel,
            documents.ModelCard,
            card,
            "What a model's newest version is, was trained on and measured.",
            (404,),
        ),
        LabRoute(
            "GET",
            "/strategies",
            "list_strategies",
            documents.Empty,
            documents.StrategyNames,
            strategies,
            "The names of the strategies: those of the workspace and the built-in ones.",
        ),
        LabRoute(
            "GET",
            "/strategies/{name}",
            "strategy_text",
            documents.ReadStrategy,
            documents.StrategyText,
            strategy,
            "A strategy file as it stands.",
            (404,),
        ),
        LabRoute(
            "GET",
            "/complete",
            "complete",
            documents.CompleteName,
            documents.Names,
            complete,
            "Known names that begin with a text.",
        ),
    ]
