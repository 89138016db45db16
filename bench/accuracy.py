"""How well does the network of the README, trained with the defaults, do on the test set?

Trains with seeds 0 to 4, and tells each test accuracy, their mean and the worst. Run:

    python bench/accuracy.py
"""

from statistics import mean

from report import accuracy, write_results

import xpnet


def main() -> None:
    """Train with every seed, as `xpnet train` does."""
    data, scores = xpnet.load_data(), []
    for seed in range(5):
        model = xpnet.MLP(seed=seed)
        xpnet.train(model, data.X_train, data.y_train, seed=seed)
        scores.append(xpnet.evaluate(model, data.X_test, data.y_test).accuracy)
    runs = [{"seed": seed, "test_accuracy": score} for seed, score in enumerate(scores)]
    results = {"mean": mean(scores), "worst": min(scores), "runs": runs}
    write_results("accuracy", results)
    print(accuracy(results))


if __name__ == "__main__":
    main()
