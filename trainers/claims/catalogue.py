"""All claims about dropout, as data. A test pins their hashes: a rule does not change after its experiment ran."""

import math

from trainers.claims import experiments as run
from trainers.claims.claim import Claim, Experiment
from trainers.claims.rules import AtLeast, Contrast, Disagreement, Every, Near, Spread

SRIVASTAVA = "Srivastava et al. 2014, JMLR 15:1929-1958"
LI = "Li et al. 2019, arXiv 1801.05134"
NOT_CIFAR = "Small networks on 28x28 images in place of the source's larger ones."


def _less(b, a, label, least=0.2, **more):
    """`b` minus `a` lies below 0."""
    return Contrast(label, {b: 1, a: -1}, "below", least, **more)


def _more(b, a, label, least=0.2, **more):
    """`b` minus `a` lies above 0."""
    return Contrast(label, {b: 1, a: -1}, "above", least, **more)


CLAIMS = (
    Claim(
        "1",
        "weight-scaling",
        "For softmax regression the weight-scaled network is exactly the normalised geometric mean of all thinned "
        "ones.",
        "Goodfellow et al. 2016, Deep Learning, section 7.12",
        Every((Near("largest difference of two probabilities", "largest", 0, 1e-6),)),
        exact="weight_scaling",
    ),
    Claim(
        "2",
        "inverted-scaling",
        "Inverted and original scaling agree in expectation, and inference of a network with dropout is that without.",
        f"{SRIVASTAVA}, section 10",
        Every(
            (
                Near("mean of 100,000 masks against inference, in standard errors", "z", 0, 3),
                Near("largest difference of the two inferences", "bits", 0, 0),
            )
        ),
        exact="inverted_scaling",
    ),
    Claim(
        "3",
        "variance-shift",
        "Dropout of a ReLU of normal values multiplies its variance in training by 1.16, 1.63 and 2.47 at rates 0.1, "
        "0.3 and 0.5.",
        f"{LI}, section 3",
        Every(
            tuple(
                Near(f"ratio at rate {rate}", f"ratio_{rate}", ratio, 0.02 * ratio)
                for rate, ratio in ((0.1, 1.16), (0.3, 1.63), (0.5, 2.47))
            )
        ),
        exact="variance_shift",
    ),
    Claim(
        "4",
        "lower-error",
        "Dropout lowers the test error of a network that overfits, and narrows the gap to the training error.",
        f"{SRIVASTAVA}, tables 2 and 9",
        Every(
            (
                AtLeast(
                    1,
                    tuple(
                        _less(f"drop-{rate}", "none", f"test error at rate 0.{rate} minus none")
                        for rate in (20, 35, 50)
                    ),
                ),
                _less("drop-50", "none", "gap between test and training error, rate 0.5 minus none", measure="gap"),
            )
        ),
        run.LOWER,
        note="The learning rate is chosen for each arm by validation error.",
    ),
    Claim(
        "5",
        "robust",
        "Dropout helps for networks of any depth and width, with one fixed setting.",
        f"{SRIVASTAVA}, figure 4",
        AtLeast(
            5,
            tuple(
                _less(f"{net}-dropout", f"{net}-none", f"test error of {net}, dropout minus none") for net in run.NETS
            ),
        ),
        run.ROBUST,
    ),
    Claim(
        "6",
        "rates",
        "Test error is flat for rates from 0.2 to 0.6, higher without dropout, and much higher at 0.9, where the "
        "training error rises too.",
        f"{SRIVASTAVA}, figure 9a",
        Every(
            (
                *(
                    Contrast(
                        f"rate 0.{rate} minus 0.5 is less than half of 0.9 minus 0.5",
                        {f"drop-{rate}": 1, "drop-50": -0.5, "drop-90": -0.5},
                    )
                    for rate in (20, 35, 60)
                ),
                _more("none", "drop-50", "test error without dropout minus rate 0.5"),
                _more("drop-90", "drop-50", "test error at 0.9 minus 0.5"),
                _more("drop-90", "drop-50", "training error at 0.9 minus 0.5", measure="train_error"),
            )
        ),
        run.RATES,
    ),
    Claim(
        "7",
        "fixed-pn",
        "A high rate does little harm if the width grows with it, so that as many units are kept.",
        f"{SRIVASTAVA}, figure 9b",
        Every((_less("640-drop-90", "128-drop-90", "test error at rate 0.9, 640 minus 128 units", 0.2),)),
        run.WIDTH,
    ),
    Claim(
        "8",
        "data-size",
        "Dropout does not help with 100 examples; its gain grows with the data, peaks, and declines.",
        f"{SRIVASTAVA}, figure 10",
        Every(
            (
                Contrast("gain at 100 examples", {"100-none": 1, "100-dropout": -1}, "zero", 1.0),
                AtLeast(
                    1,
                    tuple(
                        Contrast(
                            f"gain at {size} examples minus gain at {end}",
                            {f"{size}-none": 1, f"{size}-dropout": -1, f"{end}-none": -1, f"{end}-dropout": 1},
                            "above",
                            0.2,
                        )
                        for size in (500, 1000, 5000, 10_000)
                        for end in (100,)
                    ),
                ),
                AtLeast(
                    1,
                    tuple(
                        Contrast(
                            f"gain at {size} examples minus gain at {end}",
                            {f"{size}-none": 1, f"{size}-dropout": -1, f"{end}-none": -1, f"{end}-dropout": 1},
                            "above",
                            0.2,
                        )
                        for size in (500, 1000, 5000, 10_000)
                        for end in (50_000,)
                    ),
                ),
            )
        ),
        run.SIZE,
    ),
    Claim(
        "9",
        "mc-samples",
        "The mean prediction of about 50 masks equals weight scaling; one mask is worse.",
        f"{SRIVASTAVA}, figure 11",
        Every(
            (
                _more("drop-50:mc_error_1", "drop-50:test_error", "one mask minus weight scaling", 0.1),
                Contrast(
                    "50 masks minus weight scaling", {"drop-50:mc_error_50": 1, "drop-50:test_error": -1}, "zero", 0.2
                ),
            )
        ),
        run.RATES,
        also=(_less("drop-50:mc_loss_50", "drop-50:test_loss", "loss of 50 masks minus weight scaling", 0.01),),
    ),
    Claim(
        "10",
        "sparsity",
        "Dropout makes hidden activations sparse: their mean falls below 0.6 of that without.",
        f"{SRIVASTAVA}, section 7.2 and figure 8",
        Every(
            (
                _less(
                    "drop-50",
                    "none",
                    "log ratio of mean activations, rate 0.5 to none",
                    math.log(0.6) - math.log(0.9),
                    measure="activation",
                    log=True,
                    limit=math.log(0.6),
                ),
                _less("drop-50", "none", "share of active units, rate 0.5 minus none", 1.0, measure="active"),
            )
        ),
        run.RATES,
        note="Hidden units of the classifier in place of an autoencoder's.",
    ),
    Claim(
        "11",
        "max-norm",
        "Max-norm adds to dropout: both together have the lowest error.",
        f"{SRIVASTAVA}, table 9",
        Every(
            (
                _less("both", "dropout", "test error of both minus dropout"),
                _less("both", "max-norm", "test error of both minus max-norm"),
            )
        ),
        run.MAX_NORM,
        note="SGD with momentum 0.95, norm 3; the learning rate is chosen for each arm by validation error.",
    ),
    Claim(
        "12",
        "batchnorm",
        "Dropout before BatchNorm shifts the variance between training and inference, which harms; measuring the "
        "statistics again recovers part; dropout after the last BatchNorm does no harm.",
        f"{LI}, figure 1 and tables 2 to 6",
        Every(
            (
                _more("inside-50", "none", "log ratio of the shifts, rate 0.5 to none", 0.1, measure="shift", log=True),
                _more("inside-50", "inside-10", "log ratio of the shifts, 0.5 to 0.1", 0.1, measure="shift", log=True),
                _more("inside-50", "none", "test error inside the blocks at 0.5 minus none"),
                _less(
                    "inside-50:reestimated_error", "inside-50:test_error", "statistics measured again minus as stored"
                ),
                Contrast("test error of features at 0.5 minus none", {"features-50": 1, "none": -1}, "zero", 1.0),
            )
        ),
        run.BATCHNORM,
        note="A ResNet of 8 layers and 4, 8 and 16 filters.",
    ),
    Claim(
        "13",
        "early-conv",
        "In an early convolution spatial dropout beats element-wise dropout at equal tuning.",
        "Tompson et al. 2015, arXiv 1411.4280",
        Every(
            (
                _less(
                    "spatial-20|spatial-40", "element-20|element-40", "test error, best spatial minus best element-wise"
                ),
            )
        ),
        run.EARLY_CONV,
        note=NOT_CIFAR,
    ),
    Claim(
        "14",
        "early-dropout",
        "Dropout in the first part of the run alone lowers the final training loss of an underfitting network; "
        "dropout throughout raises it.",
        "Liu et al. 2023, arXiv 2303.01500",
        Every(
            (
                _less("early", "none", "training loss, early minus none", 0.01, measure="train_loss"),
                _more("standard", "none", "training loss, standard minus none", 0.01, measure="train_loss"),
            )
        ),
        run.EARLY,
        note="A transformer of two blocks over patches, 6 epochs; the loss is that of inference mode.",
    ),
    Claim(
        "15",
        "small-and-short",
        "Regularisation hurts a transformer that is small or trained briefly more than a large, long-trained one.",
        "Steiner et al. 2022, arXiv 2106.10270",
        Every(
            tuple(
                Contrast(
                    f"effect of dropout, {name} minus large and long",
                    {f"{name}-dropout": 1, f"{name}-none": -1, "large-long-dropout": -1, "large-long-none": 1},
                    "above",
                    0.2,
                )
                for name in ("small-long", "large-short")
            )
        ),
        run.CAPACITY,
        note=NOT_CIFAR,
    ),
    Claim(
        "16",
        "text-gain",
        "On sentences dropout lowers the error (in the source by 2 to 4 % of it).",
        "Kim 2014, arXiv 1408.5882",
        Every(
            (
                Contrast(
                    "log ratio of the errors, best rate to none", {"all|all-30": 1, "none": -1}, "below", 0.02, log=True
                ),
            )
        ),
        run.TEXT_TRANSFORMER,
        note="A transformer of one block on 10,000 sentences of glue/sst2 in place of a CNN on MR. The interval covers "
        "the seeds, not the choice of the 872 test sentences; claim 24b has an interval over both for the same runs.",
    ),
    Claim(
        "17",
        "calibration",
        "Dropout lowers the loss, also after temperature scaling, and Monte-Carlo entropy is higher on foreign images.",
        "Gal & Ghahramani 2016, arXiv 1506.02142; Guo et al. 2017, arXiv 1706.04599",
        Every(
            (
                _less("drop-50", "none", "test loss, rate 0.5 minus none", 0.01, measure="test_loss"),
                _less("drop-50", "none", "loss after temperature scaling", 0.01, measure="scaled_loss"),
                Contrast("AUROC of Monte-Carlo entropy", {"drop-50:auroc_mc": 1}, "above", 0.0, limit=0.5),
            )
        ),
        run.RATES,
        note="Foreign images are test images turned by 90 degrees.",
        also=(
            _less("drop-50", "none", "calibration error", 0.5, measure="test_ece"),
            _less("drop-50", "none", "calibration error after temperature scaling", 0.5, measure="scaled_ece"),
            _more("drop-50:auroc_mc", "drop-50:auroc_inference", "AUROC, Monte-Carlo minus inference", 0.01),
        ),
    ),
    Claim(
        "18",
        "co-adaptation",
        "Dropout breaks co-adaptation: with a quarter or half of the hidden units removed, the error stays lower.",
        f"{SRIVASTAVA}, section 7.1",
        Every(
            tuple(
                _less(
                    "drop-50",
                    "none",
                    f"test error with {share} % of the units removed",
                    0.5,
                    measure=f"removed_{share}_error",
                )
                for share in (25, 50)
            )
        ),
        run.RATES,
        also=(_less("drop-50", "none", "mean correlation of two hidden units", 0.01, measure="correlation"),),
    ),
    Claim(
        "19",
        "longer-training",
        "A network with dropout takes 1.5 to 4 times as many epochs to its best validation error.",
        f"{SRIVASTAVA}, section 11",
        Every(
            (
                _more(
                    "drop-50",
                    "none",
                    "log ratio of the best epochs, at least 1.5",
                    math.log(1.2) - math.log(1.5),
                    measure="best_epoch",
                    log=True,
                    limit=math.log(1.5),
                ),
                _less(
                    "drop-50",
                    "none",
                    "log ratio of the best epochs, at most 4",
                    0.0,
                    measure="best_epoch",
                    log=True,
                    limit=math.log(4),
                ),
            )
        ),
        run.RATES,
    ),
    Claim(
        "20a",
        "paper-bands",
        "On MNIST with the paper's recipe the band of test errors with dropout lies below that without.",
        f"{SRIVASTAVA}, figure 4 and appendix B.1",
        Every((_less("dropout", "none", "test error, dropout minus none", 0.1),)),
        run.PAPER,
    ),
    Claim(
        "20b",
        "bands",
        "Trained on, a network without dropout overfits and its curve turns upward; with dropout it keeps falling, "
        "and the error is lower by about a point.",
        "The usual picture of test error with and without dropout, as in Srivastava et al. 2014, figure 4",
        Every(
            (
                _less("dropout", "none", "test error, dropout minus none", 0.2),
                Contrast(
                    "rise of the validation loss from its lowest value, none",
                    {"none": 1},
                    "above",
                    0.02,
                    "val_loss_rise",
                ),
                _less(
                    "dropout", "none", "rise of the validation loss, dropout minus none", 0.02, measure="val_loss_rise"
                ),
            )
        ),
        run.BANDS,
        note="The curve that must turn upward is that of the loss; the error may level off. The rule asks for a lower "
        "error, not for a whole point.",
    ),
    Claim(
        "21",
        "unscaled",
        "Without the factor 1/(1-rate) activations at inference are too large, and the predictions worse.",
        "Srivastava et al. 2014, section 4; the textbook argument for inverted dropout",
        Every(
            (
                Contrast(
                    "log of how many times larger the logits are",
                    {"drop-50": 1},
                    "above",
                    0.0,
                    "unscaled_ratio",
                    log=True,
                    limit=math.log(1.5),
                ),
                _more("drop-50:unscaled_loss", "drop-50:test_loss", "loss without the factor minus with it", 0.01),
                _more("drop-50:unscaled_error", "drop-50:test_error", "error without the factor minus with it", 0.2),
            )
        ),
        run.RATES,
    ),
    Claim(
        "22",
        "before-output",
        "Dropout directly before the output layer harms.",
        "The usual advice to leave output layers alone",
        Every((_more("last", "none", "test error, last hidden layer minus none"),)),
        run.OUTPUT,
        also=(
            _less("first", "none", "test error, first hidden layer minus none"),
            _less("both", "first", "test error, both hidden layers minus the first"),
        ),
    ),
    Claim(
        "23",
        "every-layer",
        "Dropout of 0.5 on all layers of a BatchNorm ResNet harms; on its features alone it does not.",
        "The usual advice for networks with BatchNorm",
        Every(
            (
                _more("everywhere-50", "none", "test error, everywhere minus none"),
                Contrast("test error, features minus none", {"features-50": 1, "none": -1}, "below", 0.0, limit=1.0),
            )
        ),
        run.BATCHNORM,
        note="A ResNet of 8 layers and 4, 8 and 16 filters. Harm on features is an error higher by a point.",
    ),
    Claim(
        "24a",
        "transformer-images",
        "A transformer needs dropout: on images it lowers the error.",
        "Vaswani et al. 2017, arXiv 1706.03762, table 3; Dosovitskiy et al. 2021, arXiv 2010.11929",
        AtLeast(
            1,
            tuple(_less(arm, "none", f"test error, {arm} minus none") for arm in ("attention", "feed-forward", "all")),
        ),
        run.IMAGE_TRANSFORMER,
        note=NOT_CIFAR,
    ),
    Claim(
        "24b",
        "transformer-text",
        "A transformer needs dropout: on text it lowers the error.",
        "Vaswani et al. 2017, arXiv 1706.03762, table 3",
        AtLeast(
            1,
            tuple(
                _less(arm, "none", f"test error, {arm} minus none", 0.5)
                for arm in ("attention", "feed-forward", "all", "all-30")
            ),
        ),
        run.TEXT_TRANSFORMER,
        note="Classification of 10,000 sentences in place of translation.",
    ),
    Claim(
        "25",
        "stacked",
        "Dropout stacks: of weight decay, max-norm, label smoothing, augmentation and early stopping, most add to it.",
        f"{SRIVASTAVA}, table 9; the usual advice that regularisers stack",
        AtLeast(
            3,
            tuple(
                _less(arm, "dropout", f"test error, dropout with {arm} minus dropout alone")
                for arm in ("weight-decay", "max-norm", "label-smoothing", "augmentation", "early-stopping")
            ),
        ),
        run.STACKED,
    ),
    Claim(
        "26",
        "spatial",
        "At the same rate, spatial dropout is better for feature maps than element-wise dropout.",
        "Tompson et al. 2015, arXiv 1411.4280",
        Every(
            tuple(
                _less(f"spatial-{rate}", f"element-{rate}", f"test error at rate 0.{rate}, spatial minus element-wise")
                for rate in (10, 30)
            )
        ),
        run.SPATIAL,
        note=NOT_CIFAR,
    ),
    Claim(
        "27",
        "early-layers",
        "At equal mean rate, more dropout in early layers is better than a level rate or more in late layers.",
        "arXiv 2605.21648",
        Every(
            (
                _less("falling", "level", "test error, falling minus level"),
                _less("falling", "rising", "test error, falling minus rising"),
            )
        ),
        run.DEPTH,
        note="The rates are fixed before the run; nothing is selected.",
    ),
    Claim(
        "28",
        "one-epoch",
        "Dropout hurts training of a single epoch.",
        "arXiv 2505.24788",
        Every(
            tuple(_more(f"drop-{rate}", "none", f"test error at rate 0.{rate} minus none") for rate in (10, 30)),
        ),
        run.ONE_EPOCH,
        note="An MLP on 54,000 images in place of a language model.",
    ),
    Claim(
        "29",
        "monotone",
        "With tuned dropout the test error falls with every step in the number of examples.",
        "arXiv 2305.16179",
        Every(
            tuple(
                _less(
                    "|".join(f"{size}-{name}" for name in ("none", "drop-30", "drop-60")),
                    "|".join(f"{smaller}-{name}" for name in ("none", "drop-30", "drop-60")),
                    f"test error at {size} examples minus {smaller}, best rates on validation",
                    0.0,
                )
                for smaller, size in zip(run.STEPS, run.STEPS[1:], strict=False)
            )
        ),
        run.MONOTONE,
    ),
    Claim(
        "30",
        "residual-branch",
        "In a residual branch a mask after the last BatchNorm and before the last weight layer, and in the head one "
        "before global pooling, beat the usual places.",
        "Kim et al. 2023, PMLR 216",
        Every(
            (
                _less("inside", "branch", "test error, before the last weight layer minus after it"),
                _less("before-pool", "after-pool", "test error, before global pooling minus after it"),
            )
        ),
        run.BRANCH,
        note="A pre-activation ResNet of 8 layers with 4, 8 and 16 filters, rate 0.3.",
        also=(
            _less("inside", "none", "test error, before the last weight layer minus none"),
            _less("before-pool", "none", "test error, before global pooling minus none"),
        ),
    ),
    Claim(
        "31a",
        "thinned-identity",
        "A network with dropout on n units is 2^n thinned networks with shared weights, and sampling masks averages "
        "them.",
        f"{SRIVASTAVA}, section 1",
        Every(
            (
                Near("distance of a sample from the nearest of 256 thinned networks", "member", 0, 1e-5),
                Near("mean logits of all 256 against the weight-scaled network", "mean", 0, 1e-5),
                Near("mean probability of 4,000 samples against all 256, in standard errors", "z", 0, 4.5),
            )
        ),
        exact="thinned_networks",
    ),
    Claim(
        "31b",
        "thinned-ensemble",
        "The ensemble of K thinned networks improves with K and reaches the weight-scaled network.",
        f"{SRIVASTAVA}, section 7.5",
        Every(
            (
                _more("drop-50:thinned_error_single", "drop-50:test_error", "one thinned network minus the scaled one"),
                _less("drop-50:thinned_error_50", "drop-50:thinned_error_5", "50 thinned networks minus 5", 0.1),
                Contrast(
                    "50 thinned networks minus the scaled one",
                    {"drop-50:thinned_error_50": 1, "drop-50:test_error": -1},
                    "zero",
                    0.2,
                ),
            )
        ),
        run.RATES,
    ),
    Claim(
        "32",
        "seed-variance",
        "Dropout reduces the variance over seeds: of the error, of the loss and of the predictions.",
        "The usual reading of Srivastava et al. 2014, figure 4",
        AtLeast(
            3,
            (
                Spread("standard deviation of the test error over seeds", "none", "dropout"),
                Spread("standard deviation of the test loss over seeds", "none", "dropout", "test_loss"),
                Disagreement("test examples on which two seeds disagree", "none", "dropout"),
            ),
        ),
        run.VARIANCE,
        note="Twenty seeds for each arm.",
    ),
)


def claims_of(experiment: Experiment) -> list[Claim]:
    """Returns the claims that read an experiment."""
    return [claim for claim in CLAIMS if claim.experiment is not None and claim.experiment.name == experiment.name]
