/* Quizzes: check a question, show the notes of the chosen answers, keep the score. No storage, no network. */
(function () {
  "use strict";

  function check(question) {
    const options = Array.from(question.querySelectorAll(".quiz-option"));
    const chosen = options.filter((option) => option.querySelector("input").checked);
    const verdict = question.querySelector(".quiz-verdict");
    if (chosen.length === 0) {
      verdict.textContent = "Choose an answer first.";
      return;
    }
    let right = true;
    for (const option of options) {
      const isChosen = chosen.includes(option);
      const isRight = option.dataset.right === "true";
      right = right && isChosen === isRight;
      option.classList.toggle("is-shown", isChosen);
      option.classList.toggle("is-right", isChosen && isRight);
      option.classList.toggle("is-wrong", isChosen && !isRight);
    }
    const missing = !right && chosen.every((option) => option.dataset.right === "true");
    verdict.textContent = right ? "Right." : missing ? "Not yet: a right answer is missing." : "Not yet: try again.";
    question.dataset.state = right ? "right" : "wrong";
    score(question.closest(".quiz"));
  }

  function forget(question) {
    delete question.dataset.state;
    question.querySelector(".quiz-verdict").textContent = "";
    for (const option of question.querySelectorAll(".quiz-option")) {
      option.classList.remove("is-shown", "is-right", "is-wrong");
    }
    score(question.closest(".quiz"));
  }

  function score(quiz) {
    const questions = quiz.querySelectorAll(".quiz-question");
    const answered = quiz.querySelectorAll(".quiz-question[data-state]").length;
    const right = quiz.querySelectorAll('.quiz-question[data-state="right"]').length;
    quiz.querySelector(".quiz-score").textContent =
      answered === 0 ? "" : right + " of " + questions.length + (questions.length === 1 ? " question" : " questions") + " right";
  }

  function start() {
    for (const quiz of document.querySelectorAll(".quiz")) {
      quiz.classList.add("is-live");
      for (const question of quiz.querySelectorAll(".quiz-question")) {
        question.querySelector(".quiz-check").addEventListener("click", () => check(question));
        question.addEventListener("change", () => forget(question));
        question.addEventListener("keydown", (event) => {
          if (event.key === "Enter" && event.target.tagName === "INPUT") {
            event.preventDefault();
            check(question);
          }
        });
      }
    }
  }

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", start);
  } else {
    start();
  }
})();
