"""The page of every check, by its code; ``layerprobe explain CODE`` prints it."""

from __future__ import annotations

from layerprobe.analysis.checks.records import Page
from layerprobe.probe.exceptions import InputError

SAEB = "Saeb, S. et al. (2017). The need to approximate the use-case in clinical machine learning. GigaScience 6."
FORMAN = (
    "Forman, G. and Scholz, M. (2010). Apples-to-apples in cross-validation studies. ACM SIGKDD Explorations 12, 49–57."
)
LITTLE = "Little, R. J. A. and Rubin, D. B. (2019). Statistical analysis with missing data. Wiley."

PAGES = {
    "LP001": Page(
        "Unfinished sweep",
        "A run folder holds the scores of the ratings, while controls, permutations or mixes are still pending.",
        "Without its controls no score can be compared with chance or with random weights.",
        "Write the report again once layerprobe sweep has ended. After an interruption the same command resumes the "
        "sweep.",
        "docs/formats.md, section on plan.toml.",
    ),
    "LP002": Page(
        "Untrained weights",
        "The weights of a probed encoder were initialised at random.",
        "What the layers of an untrained encoder predict comes from the input and the architecture alone. It is a "
        "control, and does not show what training adds.",
        "Probe the trained encoder and give the cache of the untrained one as --random-weights.",
        "Chrupała, G. et al. (2020). Analyzing analytical methods: the case of phonology in neural models of spoken "
        "language. Proceedings of ACL, 4146–4156.",
    ),
    "LP003": Page(
        "No speakers given",
        "The sweep ran with --no-speakers, so each utterance counts as a speaker of its own.",
        "If a speaker is in training and test data, a probe can recognise the voice in place of the emotion, and "
        "scores are too high. Intervals are too narrow, because utterances of one speaker are not independent.",
        "Name the speakers in the column speaker_id of the manifest and sweep again.",
        SAEB,
    ),
    "LP004": Page(
        "Few speakers",
        "Fewer than 20 speakers, or values of the column that groups, were held out.",
        "Scores and the ranking of layers generalise over speakers, and few speakers are a small sample of them. "
        "Intervals from few clusters are approximate, even with expanded percentiles.",
        "Read the 95 % set of best layers rather than the highest-scoring layer, or add speakers.",
        "Cameron, A. C., Gelbach, J. B. and Miller, D. L. (2008). Bootstrap-based improvements for inference with "
        "clustered errors. Review of Economics and Statistics 90, 414–427. Hesterberg, T. C. (2015). The American "
        "Statistician 69, 371–386.",
    ),
    "LP005": Page(
        "Unknown speakers",
        "Some held-out utterances have the speaker Unknown.",
        "Each utterance of an unknown speaker is treated as a speaker of its own. Its speaker may also be in the "
        "training data, and intervals may be too narrow.",
        "Complete the column speaker_id, or leave these utterances out of the manifest.",
        SAEB,
    ),
    "LP006": Page(
        "One dominant speaker",
        "One speaker spoke more than half of the held-out utterances.",
        "Scores and the ranking of layers are then mostly those of one voice, and intervals over speakers are "
        "unreliable.",
        "Read the scores by speaker, or use fewer utterances of that speaker.",
        SAEB,
    ),
    "LP007": Page(
        "Speakers in several groups",
        "Folds hold out values of another column than the speaker, and some speakers are in several of its values.",
        "Scores then generalise over values of that column, and not over speakers: a probe may have met the voice.",
        "Sweep without --group-by for scores of unseen speakers.",
        SAEB,
    ),
    "LP008": Page(
        "Shared audio",
        "Several utterances have the same audio under different ids.",
        "A recording in training and test data makes scores too high. By default all utterances with the same audio "
        "are in the same fold.",
        "Correct the manifest, or sweep with --duplicates drop.",
        "Barz, B. and Denzler, J. (2020). Do we train on test data? Purging CIFAR of near-duplicates. Journal of "
        "Imaging 6, 41.",
    ),
    "LP009": Page(
        "Unbalanced folds",
        "The largest fold holds out more than twice as many utterances as the smallest.",
        "The pooled score is mostly that of the largest folds, whose probes also had the least training data.",
        "Ask for fewer folds, or use fewer utterances of speakers who have many.",
        FORMAN,
    ),
    "LP010": Page(
        "Folds of one value",
        "All held-out ratings of a target in a fold are equal, or there is only one.",
        "Correlations are not defined where ratings do not vary. A score of that fold alone means nothing; the pooled "
        "score over all folds does.",
        "Read pooled scores, or ask for fewer folds.",
        "Lin, L. I. (1989). A concordance correlation coefficient to evaluate reproducibility. Biometrics 45, 255–268.",
    ),
    "LP011": Page(
        "Class of one speaker",
        "All held-out utterances of a class are of one speaker.",
        "A probe of that class can't be distinguished from one of that speaker.",
        "Leave the class out, or add utterances of other speakers.",
        SAEB,
    ),
    "LP012": Page(
        "Penalty at the edge of its grid",
        "Cross-validation chose the smallest or the largest penalty of the grid in some fits.",
        "The best penalty may lie beyond the grid. At the upper edge ridge regression predicts little but the mean, "
        "which is what happens where a layer does not carry the target. At the lower edge a layer would be fitted with "
        "less shrinkage, and may score too low.",
        "At the upper edge, check that the target is above chance. At the lower edge, read scores of these layers as "
        "lower bounds.",
        "Hastie, T., Tibshirani, R. and Friedman, J. (2009). The elements of statistical learning. Springer, 3.4 and "
        "7.10.",
    ),
    "LP013": Page(
        "Fewer training rows than features",
        "A probe is trained on fewer utterances than a layer has features. Pooling by mean and standard deviation "
        "doubles the number of features.",
        "Any rating can then be fitted without error, so the penalty alone decides what is predicted. Scores of the "
        "same layer differed by .05 between poolings on small corpora.",
        "Compare layers and encoders of the same number of features, or extract with --pooling mean alone.",
        "Hastie, T., Montanari, A., Rosset, S. and Tibshirani, R. J. (2022). Surprises in high-dimensional ridgeless "
        "least squares interpolation. Annals of Statistics 50, 949–986.",
    ),
    "LP014": Page(
        "Too few permutations",
        "No p-value against chance can reach .05 after correction for all encoders and targets.",
        "With n permutations no p-value is below 1 / (n + 1). Holm's method multiplies the smallest by the number m of "
        "encoders and targets, so that n must be at least 20 m − 1. A score above all permutations is then no test.",
        "Sweep with more --permutations, at least 20 m − 1.",
        "Phipson, B. and Smyth, G. K. (2010). Permutation p-values should never be zero. Statistical Applications in "
        "Genetics and Molecular Biology 9, 39. Holm, S. (1979). Scandinavian Journal of Statistics 6, 65–70.",
    ),
    "LP015": Page(
        "Mix that selects one layer",
        "One layer has more than .9 of the weight of a mix of layers.",
        "Such a mix is little else than that layer. The weights of the others are not what they carry: what adjacent "
        "layers have in common is taken from one of them.",
        "Read the scores of single layers, and the loss without each layer, in place of the weights.",
        "Yang, S. et al. (2021). SUPERB: speech processing universal performance benchmark. Proceedings of "
        "Interspeech, 1194–1198.",
    ),
    "LP016": Page(
        "Layers of unequal scale",
        "The root mean square of the embeddings differs more than tenfold between layers of an encoder.",
        "Where layers are summed as they are, a layer of large values has a large part in the sum whatever its weight. "
        "Probes and mixes of layerprobe standardise each layer first.",
        "Do not compare these weights with those of toolkits that do not standardise layers.",
        "Kovaleva, O. et al. (2021). BERT busters: outlier dimensions that disrupt transformers. Findings of ACL, "
        "3392–3405.",
    ),
    "LP017": Page(
        "Scores that depend on the fold",
        "The scores of folds differ by more than the speakers that each fold holds out explain (Cochran's Q, p < .01).",
        "The pooled score is then a mixture of parts of the corpus that are easier and harder, such as sites, sessions "
        "or channels.",
        "Look for what the fold with the lowest score has in common, and read scores by speaker and by corpus.",
        f"Cochran, W. G. (1954). The combination of estimates from different experiments. Biometrics 10, 101–129. "
        f"{FORMAN}",
    ),
    "LP018": Page(
        "Targets that mostly repeat each other",
        "Ratings of two targets have more than half of their variance in common: |r| is above .71, the root of .5.",
        "A probe of one target then predicts the other as well, and their results are no separate findings.",
        "Probe the residual of one target given the other, which sweep adds for dominance given arousal and valence.",
        "Russell, J. A. and Mehrabian, A. (1977). Evidence for a three-factor theory of emotions. Journal of Research "
        "in Personality 11, 273–294.",
    ),
    "LP019": Page(
        "Utterances left out",
        "Some utterances of the manifest are not in the cache, or have no rating of any target.",
        "Scores are those of the utterances that remain. If the others differ from them, scores do not hold for the "
        "corpus.",
        "Extract the missing utterances, or see quarantine.csv for the reasons.",
        LITTLE,
    ),
    "LP020": Page(
        "Targets rated in part",
        "Some utterances have no rating of a target.",
        "Targets are then scored on different utterances, so their scores are not strictly comparable.",
        "Compare targets on the utterances that rate all of them, where the difference matters.",
        LITTLE,
    ),
    "LP021": Page(
        "Target not scored",
        "A target was left out of the sweep.",
        "Nothing can be stated about it.",
        "Follow the reason that is given with the target.",
        "docs/formats.md, section on plan.toml.",
    ),
}  # fmt: skip


def explain(code: str = "") -> str:
    """Return the page of a check, or a list of all codes with their titles where no code is given.

    Raises:
        InputError: if no check has that code
    """
    if not code:
        return "\n".join(f"{name}  {page.title}" for name, page in PAGES.items())
    if code.upper() not in PAGES:
        raise InputError(f"{code} is the code of no check. layerprobe explain, without a code, lists all of them.")
    return PAGES[code.upper()].text(code.upper())
