"""The table of effects in the columns that other packages read."""

from __future__ import annotations

import numpy as np
import pandas as pd

CONTEXT = "context"
PERTPY_COLUMNS = ("variable", "log_fc", "p_value", "adj_p_value", "contrast")


def to_pertpy(table: pd.DataFrame) -> pd.DataFrame:
    """Columns that pertpy's plots of differential expression read: ``variable, log_fc, p_value, adj_p_value, contrast``.

    Parameters
    ----------
    table
        From ``differential_expression_ppi``. ``log_fc`` is a log2 fold change of mean log1p CP10K.

    Returns
    -------
    DataFrame
        Sorted by p-value inside a contrast, rows without a p-value last. Of a model with contexts, the contrast names the
        context, so that plots keep them apart, and a column ``context`` comes last.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "target": ["A"],
    ...         "variable": ["g"],
    ...         "log_fc": [1.0],
    ...         "p_value": [0.1],
    ...         "adj_p_value": [0.1],
    ...         "contrast": ["A vs control"],
    ...     }
    ... )
    >>> to_pertpy(table).columns.tolist()
    ['variable', 'log_fc', 'p_value', 'adj_p_value', 'contrast']
    """
    columns = list(PERTPY_COLUMNS)
    if CONTEXT in table:
        context = table[CONTEXT].astype(str)
        table = table.assign(contrast=table["contrast"] + " in " + context, context=context)
        columns.append(CONTEXT)
    return table[columns].sort_values(["contrast", "p_value"], kind="stable", ignore_index=True)


def to_cell_eval(table: pd.DataFrame) -> pd.DataFrame:
    """Columns that cell-eval reads as differential expression results.

    Parameters
    ----------
    table
        From ``differential_expression_ppi``, of one context at most: cell-eval has no column for it.

    Returns
    -------
    DataFrame
        ``target, reference, feature, target_mean, reference_mean, log2_fold_change, fold_change, p_value, fdr``; means are
        mean log1p CP10K.

    Raises
    ------
    ValueError
        If the table holds several contexts, whose rows would pass for each other's.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "target": ["A"],
    ...         "variable": ["g"],
    ...         "log_fc": [1.0],
    ...         "p_value": [0.1],
    ...         "adj_p_value": [0.1],
    ...         "contrast": ["A vs control"],
    ...         "mean_target": [2.0],
    ...         "mean_control": [1.0],
    ...     }
    ... )
    >>> to_cell_eval(table)[["target", "reference", "feature", "fold_change"]].to_numpy().tolist()
    [['A', 'control', 'g', 2.0]]
    """
    contexts = list(table[CONTEXT].astype(str).unique()) if CONTEXT in table else []
    if len(contexts) > 1:
        msg = (
            f"The table holds {len(contexts)} contexts, {contexts[:5]}, and cell-eval compares one at a time: "
            f"`to_cell_eval(table[table['context'] == {contexts[0]!r}])`."
        )
        raise ValueError(msg)
    reference = [contrast[len(f"{target} vs ") :] for target, contrast in zip(table["target"], table["contrast"], strict=True)]
    return pd.DataFrame(
        {
            "target": table["target"].to_numpy(),
            "reference": reference,
            "feature": table["variable"].to_numpy(),
            "target_mean": table["mean_target"].to_numpy(),
            "reference_mean": table["mean_control"].to_numpy(),
            "log2_fold_change": table["log_fc"].to_numpy(),
            "fold_change": np.exp2(table["log_fc"].to_numpy()),
            "p_value": table["p_value"].to_numpy(),
            "fdr": table["adj_p_value"].to_numpy(),
        }
    )
